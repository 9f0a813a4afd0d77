// SPDX-License-Identifier: Apache-2.0

package flowtab

import "time"

// state is what an undecided or watched flow has besides its entry.
type state[U any] struct {
	since      time.Duration // of an undecided flow
	owner      uint32        // the number of its entry
	prev, next uint32        // numbers plus 1
	kind       uint8
	user       U
}

// The lists of states. Undecided flows are in the order in which they began, watched
// ones in that of their last use.
const (
	undecidedFlows = 0
	watchedFlows   = 1
)

// list has the numbers of its first and last state, plus 1.
type list struct {
	first, last uint32
	count       int
}

// addState gives an entry a state. Others give up theirs where there is no memory.
func (t *Table[U, F]) addState(r Ref, now time.Duration) bool {
	number, ok := t.states.add()
	for !ok {
		if !t.Shed(r) {
			return false
		}
		number, ok = t.states.add()
	}
	s := t.states.at(number)
	s.since, s.owner = now, r.number()
	t.entries.at(r.number()).state = number + 1
	t.push(number, undecidedFlows)
	return true
}

// dropState ends the state of an entry, if it has one.
func (t *Table[U, F]) dropState(e *entry[F]) {
	if e.state == 0 {
		return
	}
	t.pull(e.state - 1)
	t.states.remove(e.state - 1)
	e.state = 0
}

// push appends a state to a list.
func (t *Table[U, F]) push(number uint32, kind uint8) {
	l, s := &t.lists[kind], t.states.at(number)
	s.kind, s.prev, s.next = kind, l.last, 0
	if l.last == 0 {
		l.first = number + 1
	} else {
		t.states.at(l.last - 1).next = number + 1
	}
	l.last = number + 1
	l.count++
}

// pull takes a state out of its list.
func (t *Table[U, F]) pull(number uint32) {
	s := t.states.at(number)
	l := &t.lists[s.kind]
	if s.prev == 0 {
		l.first = s.next
	} else {
		t.states.at(s.prev - 1).next = s.next
	}
	if s.next == 0 {
		l.last = s.prev
	} else {
		t.states.at(s.next - 1).prev = s.prev
	}
	l.count--
}

// Watch keeps a flow's state for as long as the flow lasts, without the limit of time
// for undecided flows. The caller calls it again with each use, so that the flow
// which was used least lately gives way first. Decided flows are left as they are.
func (t *Table[U, F]) Watch(r Ref) {
	if e := t.entries.at(r.number()); e.state != 0 {
		t.pull(e.state - 1)
		t.push(e.state-1, watchedFlows)
	}
}

// Shed ends the state of the oldest undecided flow, or where there is none of the
// watched one that was used least lately, but not of flow except. The caller uses it
// when it gets no memory for a buffer. It returns false if there was no such flow.
func (t *Table[U, F]) Shed(except Ref) bool {
	for kind := range t.lists {
		number := t.lists[kind].first
		if number != 0 && refOf(t.states.at(number-1).owner) == except {
			number = t.states.at(number - 1).next
		}
		if number != 0 {
			t.giveUp(number-1, Memory)
			return true
		}
	}
	return false
}

// giveUp lets the caller decide a flow with what it knows of it.
func (t *Table[U, F]) giveUp(number uint32, why Why) {
	s := t.states.at(number)
	r := refOf(s.owner)
	t.Decide(r, t.config.GiveUp(r, &s.user, why))
}
