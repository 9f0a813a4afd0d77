// SPDX-License-Identifier: Apache-2.0

// Package stream joins what one side of a TCP connection sends, up to a limit, in
// such a way that what it has is what the receiver gets, or the receiver gets nothing.
//
// Sender and receiver may agree to deceive whoever reads along, so no rule of which of
// two different bytes counts is right: a segment with other bytes than those before is
// refused. So is one whose bytes the stream cannot keep: it never lets pass what it
// has not seen. Whoever sends honestly repeats a refused segment.
//
// A stream is for one goroutine.
package stream

// Stream is one direction of a connection. The zero value has no limit and no bytes:
// use [Stream.Init].
type Stream struct {
	base  uint32 // the sequence number of the first byte
	fin   uint32 // how many bytes there are in all, if hasFIN
	acked uint16 // how many bytes the other side has confirmed
	next  uint16 // how many bytes there are without a hole
	limit uint16

	started, confirmed, hasFIN, decided bool

	later  laterSYNs
	behind spans // pieces that are there behind a hole
	buffer []byte
}

// Init makes the stream ready for at most limit bytes, or 16 KiB if limit is more.
func (s *Stream) Init(limit int) {
	*s = Stream{limit: uint16(min(max(limit, 0), largest))}
}

// Release gives the stream's buffer back. Bytes is empty then. The stream may be used
// again after Init.
func (s *Stream) Release(m *Memory) {
	if s.buffer != nil {
		m.put(s.buffer)
	}
	*s = Stream{limit: s.limit}
}

// Bytes returns what the stream has from its start up to the first hole. It is valid
// until the next call.
func (s *Stream) Bytes() []byte { return s.buffer[:s.next] }

// Started reports whether the stream has seen its SYN.
func (s *Stream) Started() bool { return s.started }

// Decide tells the stream that no more bytes are needed. It keeps those of Bytes, in as
// small a buffer as there is, and goes on comparing them with what is sent again, until
// Release; the caller can release it when [Stream.Acknowledge] says that the receiver
// has them all. Pieces behind a hole, and all that follows, are not compared.
func (s *Stream) Decide(m *Memory) {
	s.decided, s.behind.n = true, 0
	if s.next == 0 && s.buffer != nil {
		m.put(s.buffer)
		s.buffer = nil
	}
	if len(s.buffer) <= smallest || int(s.next) > len(s.buffer)/2 {
		return
	}
	if b := m.get(int(s.next)); b != nil {
		copy(b, s.buffer[:s.next])
		m.put(s.buffer)
		s.buffer = b
	}
}

// Push takes a segment.
func (s *Stream) Push(g *Segment, m *Memory) Result {
	seq := g.Seq
	switch {
	case g.Flags&RST != 0:
		return s.reset(g)
	case g.Flags&(SYN|FIN) == SYN|FIN:
		return Result{Status: Malformed}
	case g.Flags&SYN != 0:
		seq++
		if status := s.open(g, m); status != Accepted {
			return Result{Status: status}
		}
	case !s.started:
		return Result{Status: Midstream}
	}
	switch {
	case g.Flags&URG != 0:
		return Result{Status: s.urgent()}
	case len(g.Payload)+g.Missing == 0 && g.Flags&FIN == 0:
		return Result{}
	case !s.confirmed && g.Flags&SYN == 0:
		return Result{Status: Unconfirmed}
	}
	return s.data(g, int(int32(seq-s.base)), m)
}

// urgent is for segments that make a byte urgent. The receiver takes it out of its
// stream. It can be a byte of another segment, so the payload does not matter. Behind
// a decision such a segment has to wait until the receiver has all that was decided on.
func (s *Stream) urgent() Status {
	switch {
	case !s.decided:
		return Malformed
	case s.acked < s.next:
		return Outside
	}
	return Accepted
}

// reset looks whether the receiver would believe a RST. The stream goes on either
// way: the RST may be lost where the bytes behind it are not.
func (s *Stream) reset(g *Segment) Result {
	return Result{Ended: !s.started || g.Seq-s.base == uint32(s.next)}
}

// open takes a SYN. Another one than the first counts only when the other side answers
// it: a side that is connected does not believe it.
func (s *Stream) open(g *Segment, m *Memory) Status {
	base := g.Seq + 1
	switch {
	case s.started && !s.tellable(base, g):
		return Outside
	case s.started:
		return Accepted
	}
	s.Release(m)
	s.base, s.started = base, true
	s.confirmed = g.Flags&ACK != 0 // it is an answer itself
	return Accepted
}

// tellable reports whether an answer will tell if it is for this SYN or for another. An
// answer to the first may confirm bytes that came with it.
func (s *Stream) tellable(base uint32, g *Segment) bool {
	carries := len(g.Payload)+g.Missing > 0
	if base == s.base {
		return !carries || s.later.n == 0
	}
	return g.Flags&ACK == 0 && !carries && base-s.base > uint32(s.next) && s.later.add(base)
}
