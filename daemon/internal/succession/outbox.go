// SPDX-License-Identifier: Apache-2.0

package succession

import "errors"

// Named is a descriptor with its name.
type Named struct {
	Name string
	FD   int
}

// Outbox sends descriptors in as few messages as hold them, and a message after
// them, as there is room.
type Outbox struct {
	rest []Named
	last Message
	with []int
	done bool
}

// NewOutbox returns one that has sent nothing. The descriptors stay the caller's,
// which keeps them open until all are sent.
func NewOutbox(list []Named, last Message, with ...int) *Outbox {
	return &Outbox{rest: list, last: last, with: with}
}

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
	if len(o.rest) == 0 {
		err := c.Send(&o.last, o.with...)
		o.done = err == nil
		return err
	}
	m := Message{Kind: Descriptors}
	var fds []int
	size := 0
	for _, d := range o.rest {
		if size += len(d.Name); size > maxNames || len(fds) == MaxRights {
			break
		}
		m.Names, fds = append(m.Names, d.Name), append(fds, d.FD)
	}
	if err := c.Send(&m, fds...); err != nil {
		return err
	}
	o.rest = o.rest[len(fds):]
	return nil
}
