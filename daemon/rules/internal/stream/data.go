// SPDX-License-Identifier: Apache-2.0

package stream

import "bytes"

// data takes a segment with bytes or FIN, of which the first byte is at offset at.
func (s *Stream) data(g *Segment, at int, m *Memory) Result {
	length := len(g.Payload) + g.Missing
	if s.isProbe(g, at, length) {
		return Result{}
	}
	if s.differs(g.Payload, at) {
		return Result{Status: Conflict}
	}
	if s.decided {
		return Result{Ended: g.Flags&FIN != 0}
	}
	if status := s.place(g, at, at+length); status != Accepted {
		return Result{Status: status}
	}
	before := s.next
	status := s.keep(g.Payload, at, m)
	if status == Accepted && g.Flags&FIN != 0 {
		s.fin, s.hasFIN = uint32(at+length), true
	}
	r := Result{Status: status, Grew: s.next > before}
	r.Ended = s.hasFIN && uint32(s.next) == s.fin
	switch {
	case status != Accepted:
	case g.Missing > 0 && at+len(g.Payload) < int(s.limit):
		r.Status = Truncated
	case s.next == s.limit && length > 0 && !r.Ended:
		r.Status = Limit
	}
	return r
}

// isProbe reports whether a segment only asks for an answer: it repeats the byte before
// the next one, which the receiver has, and what it has in it does not count (RFC 9293,
// 3.8.4).
func (s *Stream) isProbe(g *Segment, at, length int) bool {
	return length == 1 && g.Flags&(SYN|FIN) == 0 && (at == -1 || at >= 0 && at < int(s.acked))
}

// differs reports whether bytes are not those that the stream has at the same place.
func (s *Stream) differs(b []byte, at int) bool {
	if s.differsIn(b, at, span{0, s.next}) {
		return true
	}
	for _, p := range s.behind.all() {
		if s.differsIn(b, at, p) {
			return true
		}
	}
	return false
}

func (s *Stream) differsIn(b []byte, at int, p span) bool {
	from, to := max(at, int(p.from)), min(at+len(b), int(p.to))
	return from < to && !bytes.Equal(b[from-at:to-at], s.buffer[from:to])
}

// place reports whether the stream can have bytes from offset at to end, and an end
// there.
func (s *Stream) place(g *Segment, at, end int) Status {
	fin := g.Flags&FIN != 0
	switch {
	case at < 0:
		return Outside
	case fin && end < int(max(s.next, s.behind.last())):
		return Conflict
	case s.hasFIN && (end > int(s.fin) || fin && end != int(s.fin)):
		return Conflict
	case at == end: // a FIN
		return Accepted
	case at >= int(s.limit) && s.next < s.limit:
		return Outside
	}
	return Accepted
}

// keep takes the bytes up to the limit.
func (s *Stream) keep(b []byte, at int, m *Memory) Status {
	end := min(at+len(b), int(s.limit))
	if at >= end {
		return Accepted
	}
	if !s.reserve(end, m) {
		return NoMemory
	}
	if at > int(s.next) && !s.behind.add(span{uint16(at), uint16(end)}) {
		return Limit
	}
	copy(s.buffer[at:end], b)
	if at <= int(s.next) {
		s.next = s.behind.take(max(s.next, uint16(end)))
	}
	return Accepted
}

// reserve makes the buffer at least n bytes long.
func (s *Stream) reserve(n int, m *Memory) bool {
	if n <= len(s.buffer) {
		return true
	}
	b := m.get(n)
	if b == nil {
		return false
	}
	if s.buffer != nil {
		copy(b, s.buffer)
		m.put(s.buffer)
	}
	s.buffer = b
	return true
}
