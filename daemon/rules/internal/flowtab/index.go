// SPDX-License-Identifier: Apache-2.0

package flowtab

// A slot of the index is 0, or has the number of an entry plus 1, and above it some
// bits of the key's hash, so that few foreign entries are looked at.
const (
	numberBits = 20
	numberMask = 1<<numberBits - 1
	minSlots   = 16
	slotSize   = 4
)

// slotOf returns what the index has for an entry. The place in the index comes from
// the lower bits of the hash, the tag from the upper ones.
func slotOf(hash, number uint32) uint32 {
	return hash&^numberMask | (number + 1)
}

// find returns the entry that has the key.
func (t *Table[U, F]) find(k *Key, hash uint32) (number uint32, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := t.slots[i]
		if slot == 0 {
			return 0, false
		}
		if (slot^hash)&^numberMask != 0 {
			continue
		}
		number = slot&numberMask - 1
		if e := t.entries.at(number); e.key == *k {
			return number, true
		}
	}
}

// index adds an entry. It keeps a quarter of the slots free, or fewer where there is
// no memory for a larger index.
func (t *Table[U, F]) index(hash, number uint32) bool {
	n := t.entries.count
	if n*4 > len(t.slots)*3 && t.resize(max(minSlots, len(t.slots)*2)) {
		return true
	}
	if n*16 > len(t.slots)*15 {
		return false
	}
	t.place(hash, number)
	return true
}

func (t *Table[U, F]) place(hash, number uint32) {
	mask := uint32(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = slotOf(hash, number)
}

// resize makes the index anew, with all entries.
func (t *Table[U, F]) resize(size int) bool {
	if !t.entries.account.Take(size * slotSize) {
		return false
	}
	t.entries.account.Give(len(t.slots) * slotSize)
	t.slots = make([]uint32, size)
	for i, ok := t.entries.next(0); ok; i, ok = t.entries.next(i + 1) {
		t.place(t.hash(&t.entries.at(i).key), i)
	}
	return true
}

// unindex removes an entry, and moves up those behind it that were pushed on.
func (t *Table[U, F]) unindex(hash, number uint32) {
	mask := uint32(len(t.slots) - 1)
	hole := hash & mask
	for t.slots[hole] != slotOf(hash, number) {
		hole = (hole + 1) & mask
	}
	for i := (hole + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := t.hash(&t.entries.at(t.slots[i]&numberMask-1).key) & mask
		if (i-home)&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
}
