// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Named is a descriptor with its name.
type Named struct {
	Name string
	FD   int
	// ID tells it from all others of a list. It grows from each to the next.
	ID uint64
}

// Mirror is which descriptors of a list the other side has, by their IDs.
type Mirror struct{ has []uint64 }

// missing returns those of the list that the other side does not have.
func (m *Mirror) missing(list []Named) []Named {
	if len(m.has) == 0 {
		return list
	}
	last := m.has[len(m.has)-1]
	from, _ := slices.BinarySearchFunc(list, last+1, func(d Named, id uint64) int {
		return cmp.Compare(d.ID, id)
	})
	return list[from:]
}

// gone returns the positions of those that the list does not have any more.
func (m *Mirror) gone(list []Named) []int {
	var gone []int
	next := 0
	for at, id := range m.has {
		for next < len(list) && list[next].ID < id {
			next++
		}
		if next == len(list) || list[next].ID != id {
			gone = append(gone, at)
		}
	}
	return gone
}

// DeleteAt deletes what is at the positions of a [Forget] message, and calls gone with
// each.
func DeleteAt[T any](list []T, positions []int, gone func(T)) ([]T, error) {
	if last := positions[len(positions)-1]; last >= len(list) {
		return list, fmt.Errorf("descriptor %d is to be forgotten, of %d", last, len(list))
	}
	at := -1
	return slices.DeleteFunc(list, func(one T) bool {
		at++
		if len(positions) == 0 || positions[0] != at {
			return false
		}
		positions = positions[1:]
		gone(one)
		return true
	}), nil
}

// Outbox has the other side hold the same descriptors as a list, in as few messages as
// can be, and sends a message after them, as there is room.
type Outbox struct {
	list   func() []Named // nil for none
	mirror *Mirror
	last   Message
	with   []int
	done   bool
}

// NewOutbox returns one that has sent nothing. It asks for the list whenever it sends, so
// that this may change in between. The last message has its length.
func NewOutbox(m *Mirror, list func() []Named, last Message, with ...int) *Outbox {
	return &Outbox{list: list, mirror: m, last: last, with: with}
}

// NewWord returns an outbox that has a message only.
func NewWord(m Message) *Outbox { return &Outbox{last: m} }

// Flush sends what there is room for, and reports whether that was all.
func (o *Outbox) Flush(c *Conn) (bool, error) {
	for !o.done {
		err := o.next(c)
		if errors.Is(err, ErrAgain) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func (o *Outbox) next(c *Conn) error {
	if o.list != nil {
		list := o.list()
		if gone := o.mirror.gone(list); len(gone) > 0 {
			return o.sendGone(c, gone[:min(len(gone), maxPositions)])
		}
		if missing := o.mirror.missing(list); len(missing) > 0 {
			return o.sendMissing(c, missing)
		}
		o.last.Count = len(list)
	}
	err := c.Send(&o.last, o.with...)
	o.done = err == nil
	return err
}

func (o *Outbox) sendGone(c *Conn, positions []int) error {
	err := c.Send(&Message{Kind: Forget, Positions: positions})
	if err == nil {
		o.mirror.has, err = DeleteAt(o.mirror.has, positions, func(uint64) {})
	}
	return err
}

// sendMissing sends the first ones, as many as one message holds.
func (o *Outbox) sendMissing(c *Conn, list []Named) error {
	m := Message{Kind: Descriptors}
	var fds []int
	var ids []uint64
	size := 0
	for _, d := range list {
		if size += len(d.Name); size > maxNames || len(fds) == MaxRights {
			break
		}
		m.Names, fds, ids = append(m.Names, d.Name), append(fds, d.FD), append(ids, d.ID)
	}
	err := c.Send(&m, fds...)
	if err == nil {
		o.mirror.has = append(o.mirror.has, ids...)
	}
	return err
}
