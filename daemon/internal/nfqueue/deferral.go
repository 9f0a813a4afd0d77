// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"bytes"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// deferral is a packet whose verdict is deferred, or memory for one.
type deferral struct {
	number int    // of the memory
	ticket uint64 // of the packet, 0 for none; its low bits are the number
	state  deferralState
	// released while the batch was inspected, with this verdict.
	released bool
	verdict  inspect.Verdict
	deadline time.Duration // by the reader's clock

	packet inspect.Packet
	// head has the beginning of the payload, where nobody needs all of it.
	head           [128]byte
	previous, next *deferral // by age
}

// slotBits of a ticket tell the memory.
const slotBits = 16

type deferralState uint8

const (
	unused  deferralState = iota
	asked                 // Inspect has not returned
	inBatch               // Inspect has answered Defer; the batch has no answer yet
	waits                 // for its Release
)

// keep copies the packet and this much of its payload.
func (x *deferral) keep(p *inspect.Packet, size int) {
	x.packet = *p
	x.packet.Deferrer = nil
	x.packet.Payload = append(x.head[:0], p.Payload[:size]...)
}

func (x *deferral) clear() {
	x.ticket, x.state = 0, unused
	x.released, x.verdict = false, inspect.Verdict{}
	x.packet = inspect.Packet{}
	x.previous, x.next = nil, nil
}

// Defer keeps a packet of the batch that the session has inspected.
func (s *session) Defer(p *inspect.Packet, limit time.Duration) (inspect.Deferred, bool) {
	s.reader.sending.Lock()
	defer s.reader.sending.Unlock()
	d := s.reader.deferrals
	if d.session != s {
		return inspect.Deferred{}, false
	}
	var x *deferral
	if !s.isNewest(p.ID) {
		x = s.deferral(p.ID)
	}
	if x == nil {
		if x = d.take(p, limit); x == nil {
			s.reader.Counters.Undeferred.Add(1)
			return inspect.Deferred{}, false
		}
		if s.isNewest(p.ID) {
			s.newest = p.ID
		}
		s.deferred = append(s.deferred, x)
	}
	return inspect.NewDeferred(d, x.ticket), true
}

// isNewest reports whether all that is deferred of the batch came before a packet.
func (s *session) isNewest(id uint32) bool {
	return len(s.deferred) == 0 || int32(id-s.newest) > 0
}

// deferral returns what is deferred of the batch under an ID, nil for nothing. It takes
// the least time where packets are asked for in their order.
func (s *session) deferral(id uint32) *deferral {
	n := len(s.deferred)
	for i := range n {
		at := s.expected + i
		if at >= n {
			at -= n
		}
		if x := s.deferred[at]; x.state != unused && x.packet.ID == id {
			s.expected = at + 1
			return x
		}
	}
	return nil
}

// decide makes the packet's answer of what the inspector says, where it is not
// deferred. Packets that were released meanwhile go before it.
func (s *session) decide(p *inspect.Packet, v *inspect.Verdict) {
	if len(s.deferred) == 0 || !s.decideDeferred(p, v) {
		s.conclude(p, v)
	}
}

// decideDeferred reports whether the packet is deferred.
func (s *session) decideDeferred(p *inspect.Packet, v *inspect.Verdict) bool {
	s.reader.sending.Lock()
	defer s.reader.sending.Unlock()
	d := s.reader.deferrals
	if d.session != s {
		return false
	}
	x := s.deferral(p.ID)
	if x != nil && v.Action != inspect.Defer {
		d.free(x)
		x = nil
	}
	if x != nil {
		x.state = inBatch
		s.verdicts.counters.deferred++
		s.verdicts.closeRun()
		s.verdicts.single = true
	}
	s.answerReleased()
	return x != nil
}

// answerReleased answers packets of the batch that were released, in the order in
// which they were. Where Inspect has not answered yet about one, it may say something
// else.
func (s *session) answerReleased() {
	d := s.reader.deferrals
	left := d.released[:0]
	for _, ticket := range d.released {
		x := d.find(ticket)
		switch {
		case x == nil:
		case x.state == asked:
			left = append(left, ticket)
		default:
			if x.verdict.Action == inspect.Reject { // after the batch, when others have x
				x.packet.Payload = bytes.Clone(x.packet.Payload)
			}
			s.conclude(&x.packet, &x.verdict)
			d.free(x)
		}
	}
	d.released = left
}

// endBatch has what is deferred of the batch wait for its Release from now on. The
// session holds the reader's sending.
func (s *session) endBatch() {
	if len(s.deferred) == 0 {
		return
	}
	defer func() { s.deferred, s.expected = s.deferred[:0], 0 }()
	d := s.reader.deferrals
	if d.session != s {
		return
	}
	s.answerReleased()
	for _, x := range s.deferred {
		switch x.state {
		case asked: // a packet of another batch
			d.free(x)
		case inBatch:
			x.state = waits
			d.arm(x.deadline)
		}
	}
}
