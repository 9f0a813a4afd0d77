// SPDX-License-Identifier: Apache-2.0

package stream

// Acknowledged is what the other side says of a stream.
type Acknowledged uint8

const (
	// NotAll says that the receiver lacks some of the bytes, or that it says nothing.
	NotAll Acknowledged = iota
	// All says that the receiver has all bytes that the stream has. It takes no other
	// ones for them any more.
	All
	// Gap says that the receiver has bytes that the stream has not.
	Gap
	// Restarted says that the receiver has answered another SYN, with which the
	// stream has begun anew.
	Restarted
)

// Acknowledge takes a segment of the other side.
func (s *Stream) Acknowledge(g *Segment, m *Memory) Acknowledged {
	switch {
	case g.Flags&ACK == 0 || !s.started:
		return NotAll
	case g.Flags&RST != 0:
		s.later.remove(g.Ack)
		return NotAll
	}
	if g.Flags&SYN != 0 {
		if s.later.has(g.Ack) {
			s.Release(m)
			s.base, s.started, s.confirmed = g.Ack, true, true
			return Restarted
		}
		s.confirmed = s.confirmed || g.Ack-s.base <= uint32(s.next)
	}
	return s.acknowledge(int(int32(g.Ack - s.base)))
}

func (s *Stream) acknowledge(n int) Acknowledged {
	next := int(s.next)
	if !s.confirmed || n < 0 {
		return NotAll
	}
	s.acked = uint16(max(int(s.acked), min(n, next)))
	switch {
	case n < next:
		return NotAll
	case n == next, s.decided, s.next == s.limit, s.hasFIN && s.fin == uint32(next) && n == next+1:
		return All
	}
	return Gap
}
