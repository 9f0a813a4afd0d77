// SPDX-License-Identifier: Apache-2.0

package flowtab

import "time"

// look is how many flows eviction gives a second chance at a time.
const look = 64

// evict removes a flow. Where most flows are undecided, it is the oldest of these, after
// the caller has decided it: flows which never decide must not push out all others.
// Else it is one of the others.
func (t *Table[U, F]) evict() {
	if t.entries.count == 0 {
		return
	}
	if undecided := t.lists[undecidedFlows]; undecided.count*2 > t.entries.count {
		r := refOf(t.states.at(undecided.first - 1).owner)
		t.giveUp(undecided.first-1, Memory)
		t.Remove(r)
		return
	}
	t.Remove(t.victim())
}

// victim returns the first flow behind the hand that had no packet since the hand last
// came by: of the first few, or else the one of them that had none for longest.
func (t *Table[U, F]) victim() Ref {
	var oldest Ref
	for seen := 0; seen < look || oldest == 0; seen++ {
		r := t.turn()
		e := t.entries.at(r.number())
		if e.state != 0 && t.states.at(e.state-1).kind == undecidedFlows {
			continue
		}
		if !e.referenced {
			return r
		}
		e.referenced = false
		if oldest == 0 || e.last < t.entries.at(oldest.number()).last {
			oldest = r
		}
	}
	return oldest
}

// turn moves the hand to the next flow. There is one.
func (t *Table[U, F]) turn() Ref {
	number, ok := t.entries.next(t.hand)
	if !ok {
		number, _ = t.entries.next(0)
	}
	t.hand = number + 1
	return refOf(number)
}

// Expire gives up the flows that were undecided for too long, removes those of the
// next n flows that were idle for too long, and gives memory back that is not needed.
// It is to be called about each second, with an n that comes around often enough.
func (t *Table[U, F]) Expire(now time.Duration, n int) {
	for {
		first := t.lists[undecidedFlows].first
		if first == 0 || now-t.states.at(first-1).since < t.config.Undecided {
			break
		}
		t.giveUp(first-1, Timeout)
	}
	for range min(n, t.entries.count) {
		number, ok := t.entries.next(t.sweep)
		if !ok {
			t.sweep = 0
			break
		}
		t.sweep = number + 1
		// A packet's time may be a little later than the caller's.
		if e := t.entries.at(number); int32(seconds(now)-e.last) > int32(e.idle) {
			t.Remove(refOf(number))
		}
	}
	t.trim()
}

// trim keeps what a table needs whose flows come and go, and gives the rest back.
func (t *Table[U, F]) trim() {
	t.entries.trim(t.entries.spare())
	t.states.trim(t.states.spare())
	switch n := len(t.slots); {
	case n > 0 && t.entries.exist == 0:
		t.entries.account.Give(n * slotSize)
		t.slots = nil
	case n > minSlots && t.entries.count < n/16:
		t.resize(n / 4)
	}
}

// spare is how many empty chunks a slab should keep: none where it has no values.
func (s *slab[T]) spare() int {
	if s.count == 0 {
		return 0
	}
	return 1 + s.exist/8
}
