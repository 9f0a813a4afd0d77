// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// maxSent is how many answers are known again: more than may be sent at once.
const maxSent = 128

// compared is how much of an answer is looked at. The rest is under a checksum.
const compared = 64

// sent are the answers that have left and have not come back through the queue. All
// methods may be called concurrently.
type sent struct {
	waiting atomic.Int32
	seed    maphash.Seed

	mu    sync.Mutex
	known [maxSent]uint64 // 0 is none
	next  int
}

func newSent() *sent { return &sent{seed: maphash.MakeSeed()} }

// add notes an answer, in place of the oldest where there are too many.
func (s *sent) add(packet []byte) {
	h := s.hash(packet)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[s.next] == 0 {
		s.waiting.Add(1)
	}
	s.known[s.next] = h
	s.next = (s.next + 1) % maxSent
}

// take reports whether a packet is an answer that was noted, once.
func (s *sent) take(p *inspect.Packet) bool {
	if s.waiting.Load() == 0 || !looksLikeAnswer(p) {
		return false
	}
	h := s.hash(p.Payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, known := range s.known {
		if known == h {
			s.known[i] = 0
			s.waiting.Add(-1)
			return true
		}
	}
	return false
}

func (s *sent) hash(packet []byte) uint64 {
	return max(1, maphash.Bytes(s.seed, packet[:min(len(packet), compared)]))
}

// looksLikeAnswer spares other packets the comparison. Answers have neither options
// nor extension headers.
func looksLikeAnswer(p *inspect.Packet) bool {
	b := p.Payload
	if p.Direction != inspect.Out || len(b) < ipv4HeaderLen {
		return false
	}
	switch b[0] {
	case 4<<4 | ipv4HeaderLen/4:
		return isAnswer(b[9], b[ipv4HeaderLen:], inspect.ProtoICMP, icmpUnreachable)
	case 6 << 4:
		return len(b) > ipv6HeaderLen &&
			isAnswer(b[6], b[ipv6HeaderLen:], inspect.ProtoICMPv6, icmpv6Unreachable)
	}
	return false
}

func isAnswer(protocol byte, transport []byte, icmp, unreachable byte) bool {
	if protocol == inspect.ProtoTCP {
		return len(transport) == tcpHeaderLen && transport[tcpFlags]&rst != 0
	}
	return protocol == icmp && len(transport) > icmpHeaderLen && transport[0] == unreachable
}
