// SPDX-License-Identifier: Apache-2.0

package stream

import "slices"

// maxLater is how many later SYNs a stream remembers.
const maxLater = 4

// laterSYNs are the bases that a stream would have if the other side answered another
// SYN than the first. All of them are kept: which one is answered, the sender may know
// beforehand.
type laterSYNs struct {
	n    uint8
	list [maxLater]uint32
}

// add returns false if there are too many.
func (l *laterSYNs) add(base uint32) bool {
	switch {
	case l.has(base):
		return true
	case l.n == maxLater:
		return false
	}
	l.list[l.n] = base
	l.n++
	return true
}

func (l *laterSYNs) has(base uint32) bool {
	return slices.Contains(l.list[:l.n], base)
}

// remove forgets a SYN that the other side has refused.
func (l *laterSYNs) remove(base uint32) {
	if i := slices.Index(l.list[:l.n], base); i >= 0 {
		l.n--
		l.list[i] = l.list[l.n]
	}
}
