// SPDX-License-Identifier: Apache-2.0

package stream

// maxSpans is how many pieces behind a hole a stream keeps.
const maxSpans = 32

// span is a piece of a stream, from its first byte to the one behind the last.
type span struct{ from, to uint16 }

// spans are pieces that do not touch each other, in order.
type spans struct {
	n    uint8
	list [maxSpans]span
}

func (s *spans) all() []span { return s.list[:s.n] }

// add joins a piece with those that it touches. It returns false if there are too
// many.
func (s *spans) add(p span) bool {
	first := 0
	for first < int(s.n) && s.list[first].to < p.from {
		first++
	}
	behind := first
	for behind < int(s.n) && s.list[behind].from <= p.to {
		p.from = min(p.from, s.list[behind].from)
		p.to = max(p.to, s.list[behind].to)
		behind++
	}
	if first == behind && s.n == maxSpans {
		return false
	}
	rest := copy(s.list[first+1:], s.list[behind:s.n])
	s.list[first] = p
	s.n = uint8(first + 1 + rest)
	return true
}

// take removes the pieces that a stream reaches that has all bytes before next, and
// returns how far it reaches with them.
func (s *spans) take(next uint16) uint16 {
	reached := 0
	for reached < int(s.n) && s.list[reached].from <= next {
		next = max(next, s.list[reached].to)
		reached++
	}
	copy(s.list[:], s.list[reached:s.n])
	s.n -= uint8(reached)
	return next
}

// last returns the byte behind the last piece.
func (s *spans) last() uint16 {
	if s.n == 0 {
		return 0
	}
	return s.list[s.n-1].to
}
