// SPDX-License-Identifier: Apache-2.0

package stream

import "bytes"

// maxKept is how many bytes a tail keeps that the receiver has not confirmed.
const maxKept = largest

// Tail is what follows the start of a stream: bytes that are read in their order for as
// long as the connection lasts. It refuses what does not continue it, so that whoever
// sent it repeats it later, and compares what is sent again with what was read, until the
// receiver has it. Make it with [Stream.Follow].
type Tail struct {
	next  uint32 // the sequence number of the next byte to read
	kept  []byte // what was read last
	until uint32 // the sequence number behind kept
	// ahead are pieces of a body that have passed before those in front of them.
	ahead [maxAhead]piece
	n     int

	fin    uint32 // the sequence number of the sender's FIN
	hasFIN bool
}

const maxAhead = 16

type piece struct{ from, to uint32 }

// Confirmed reports whether the other side has answered the stream's SYN.
func (s *Stream) Confirmed() bool { return s.confirmed }

// ClosedBy reports whether a segment of the other side confirms the stream's end. A FIN
// alone says little: the other side may not get it, or not believe it.
func (s *Stream) ClosedBy(g *Segment) bool {
	return s.hasFIN && uint32(s.next) == s.fin && g.Flags&(ACK|RST) == ACK &&
		g.Ack == s.base+s.fin+1
}

// Follow makes t continue the stream, whose bytes have all been read, and releases the
// stream's buffer. It returns false while the stream has pieces behind a hole, or if there
// is no memory.
func (s *Stream) Follow(t *Tail, m *Memory) bool {
	if s.behind.n > 0 {
		return false
	}
	*t = Tail{next: s.base + uint32(s.next), until: s.base + uint32(s.next)}
	t.fin, t.hasFIN = s.base+s.fin, s.hasFIN
	if s.acked < s.next {
		if !t.keep(s.buffer[s.acked:s.next], m) {
			return false
		}
	}
	s.Release(m)
	return true
}

// Release gives the tail's buffer back.
func (t *Tail) Release(m *Memory) {
	if t.kept != nil {
		m.put(t.kept[:cap(t.kept)])
	}
	*t = Tail{}
}

// ClosedBy reports whether a segment of the other side confirms the end of the stream,
// all of which was read.
func (t *Tail) ClosedBy(g *Segment) bool {
	return t.hasFIN && t.fin == t.next && g.Flags&(ACK|RST) == ACK && g.Ack == t.fin+1
}

// Idle reports whether the receiver has confirmed all bytes that were read.
func (t *Tail) Idle() bool { return t.kept == nil }

// Acknowledge takes a segment of the other side. What it confirms is compared no more.
func (t *Tail) Acknowledge(g *Segment, m *Memory) {
	if g.Flags&ACK == 0 || t.kept == nil {
		return
	}
	left := int32(t.until - g.Ack)
	switch {
	case left <= 0 && int32(t.next-g.Ack) >= 0:
		m.put(t.kept[:cap(t.kept)])
		t.kept = nil
	case left > 0 && int(left) < len(t.kept):
		t.kept = t.kept[:copy(t.kept, t.kept[len(t.kept)-int(left):])]
	}
}

// Push takes a segment. The next skip bytes are those of a body, which nobody looks at:
// they may come in any order. It returns the bytes to read, or an Accepted status without
// any if all were read before. Passed is how many bytes of the body, behind these, have
// passed without being read.
func (t *Tail) Push(g *Segment, skip uint64, m *Memory) (b []byte, passed int, s Status) {
	length := len(g.Payload) + g.Missing
	if g.Flags&FIN != 0 {
		t.fin, t.hasFIN = g.Seq+uint32(length), true
	}
	if g.Flags&URG != 0 { // the urgent byte can be one of another segment
		return nil, 0, Malformed
	}
	if length == 0 {
		return nil, 0, Accepted
	}
	at := int(int32(g.Seq - t.next))
	if t.differs(g.Payload, at) {
		return nil, 0, Conflict
	}
	switch {
	case at+length <= 0:
		return nil, 0, Accepted
	case at > 0:
		return nil, 0, t.jump(g.Seq, at, length, skip)
	case g.Missing > 0 && uint64(at+length) > skip:
		return nil, 0, Truncated
	}
	return t.read(g.Payload[min(-at, len(g.Payload)):], at+length, skip, m)
}

// read takes the next bytes, of which length are on the wire.
func (t *Tail) read(b []byte, length int, skip uint64, m *Memory) ([]byte, int, Status) {
	if heads := uint64(length) - min(skip, uint64(length)); heads > 0 {
		if t.kept != nil && (t.until != t.next || skip > 0) {
			return nil, 0, Outside // kept would have a hole
		}
		if heads > maxKept {
			return nil, 0, Limit
		}
		if len(t.kept)+int(heads) > maxKept {
			return nil, 0, Outside
		}
		if !t.keep(b[len(b)-int(heads):], m) {
			return nil, 0, NoMemory
		}
		t.until = t.next + uint32(length)
	}
	t.next += uint32(length)
	passed := length - len(b) // of a body
	return b, passed + t.catchUp(), Accepted
}

// catchUp goes over pieces that have passed before.
func (t *Tail) catchUp() (passed int) {
	for i := 0; i < t.n; i++ {
		p := t.ahead[i]
		if int32(p.from-t.next) > 0 {
			continue
		}
		if more := int32(p.to - t.next); more > 0 {
			t.next += uint32(more)
			passed += int(more)
		}
		t.n--
		t.ahead[i] = t.ahead[t.n]
		i = -1
	}
	return passed
}

// jump lets pieces of a body pass that are behind a hole.
func (t *Tail) jump(seq uint32, at, length int, skip uint64) Status {
	if uint64(at+length) > skip {
		return Outside
	}
	p := piece{seq, seq + uint32(length)}
	for i := range t.n {
		a := &t.ahead[i]
		if int32(p.from-a.to) <= 0 && int32(a.from-p.to) <= 0 {
			if int32(p.from-a.from) < 0 {
				a.from = p.from
			}
			if int32(p.to-a.to) > 0 {
				a.to = p.to
			}
			return Accepted
		}
	}
	if t.n == maxAhead {
		return Outside
	}
	t.ahead[t.n] = p
	t.n++
	return Accepted
}

// differs reports whether bytes are not those that were read at the same place.
func (t *Tail) differs(b []byte, at int) bool {
	start := int(int32(t.until-t.next)) - len(t.kept)
	from, to := max(at, start), min(at+len(b), start+len(t.kept))
	return from < to && !bytes.Equal(b[from-at:to-at], t.kept[from-start:to-start])
}

// keep appends bytes to those that are compared.
func (t *Tail) keep(b []byte, m *Memory) bool {
	n := len(t.kept)
	if n+len(b) > cap(t.kept) {
		larger := m.get(n + len(b))
		if larger == nil {
			return false
		}
		copy(larger, t.kept)
		if t.kept != nil {
			m.put(t.kept[:cap(t.kept)])
		}
		t.kept = larger
	}
	t.kept = append(t.kept[:n], b...)
	return true
}
