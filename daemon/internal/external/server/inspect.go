// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// deferSlack is how much longer than the budget packets are deferred: the server gives them
// their verdicts before.
const deferSlack = 2 * time.Second

// maxBytes is how much of packets waits for an inspector.
const maxBytes = 64 << 20

// InspectBatch sends packets to the inspector. They get their verdicts later, or at once
// what OnFailure says where the inspector is away.
func (s *Server) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	l := s.link.Load()
	if l != nil && l.take(packets, verdicts) {
		return
	}
	s.counters.away.Add(uint64(len(packets)))
	for i := range verdicts {
		verdicts[i] = s.failed(&verdicts[i])
	}
}

// failed returns what becomes of a packet that the inspector does not answer.
func (s *Server) failed(before *inspect.Verdict) inspect.Verdict {
	v := *before
	switch s.config.OnFailure {
	case AsBefore:
	case Accept:
		v.Action, v.Settle = inspect.Accept, false
	case Drop:
		v = inspect.Verdict{Action: inspect.Drop, Reason: s.reason}
	default:
		v = inspect.Verdict{}
	}
	return v
}

// take sends packets of one queue. It returns false, and has done nothing, where the
// inspector takes none.
func (l *link) take(packets []*inspect.Packet, verdicts []inspect.Verdict) bool {
	a := packets[0].Attachment
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.takesLocked() {
		return false
	}
	number, known := l.announced[a]
	if !known {
		l.mu.Unlock() // the server's lock comes first
		number = l.server.numberOf(a)
		l.mu.Lock()
		if !l.takesLocked() {
			return false
		}
		l.announceLocked(a, number)
	}
	now := l.clock()
	q := l.queueOf(packets[0])
	for i, p := range packets {
		l.hold(q, number, p, &verdicts[i], now)
	}
	l.flush(q)
	l.armLocked()
	return true
}

func (l *link) takesLocked() bool { return !l.closed && !l.draining && len(l.late) == 0 }

// hold keeps a packet in the last batch of its queue, or in another one behind it.
func (l *link) hold(
	q *queue, number uint32, p *inspect.Packet, v *inspect.Verdict, now time.Duration,
) {
	var d inspect.Deferred
	ok := l.bytes < maxBytes
	if ok {
		d, ok = p.Defer(l.server.config.Budget + deferSlack)
	}
	if !ok {
		l.server.counters.overflow.Add(1)
		*v = l.server.failed(v)
		return
	}
	h := headerOf(p, l.monotonic+now)
	var b *batch
	if n := len(q.waiting); n > 0 {
		b = q.waiting[n-1]
	}
	size := l.copyRange()
	if b == nil || b.attachment != number || !b.add(&h, p, size) {
		b = l.newBatch(q, number, now)
		q.waiting = append(q.waiting, b)
		b.add(&h, p, size) // an empty one has room for any packet
	}
	b.keep(p.ID, d, v)
	l.bytes += min(len(p.Payload), size)
	*v = inspect.Verdict{Action: inspect.Defer}
}

func (l *link) copyRange() int {
	if l.hello.CopyRange == 0 {
		return wholePackets
	}
	return int(l.hello.CopyRange)
}

// headerOf returns what the inspector is told of a packet.
func headerOf(p *inspect.Packet, now time.Duration) proto.Header {
	h := proto.Header{
		ID: p.ID, Length: uint32(p.Length), Mark: p.Mark, Direction: uint8(p.Direction),
		Time: uint64(now), InDev: p.InDev, OutDev: p.OutDev,
	}
	switch p.Checksum {
	case inspect.ChecksumUnverified:
		h.Flags |= proto.FlagUnverified
	case inspect.ChecksumNotReady:
		h.Flags |= proto.FlagNotReady
	}
	if p.Merged {
		h.Flags |= proto.FlagMerged
	}
	if f, ok := p.Flow(); ok {
		h.Protocol, h.Flow = f.Protocol, flowNumber(&f)
	}
	return h
}
