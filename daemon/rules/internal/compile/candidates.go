// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"hash/maphash"
	"math"
	"slices"
)

// maxHeads has room for two indexes, one in a group of the other.
const maxHeads = 2*maxGroups + 2

// candidates are the steps of a list that may be anything but false for a flow.
type candidates struct {
	heads [maxHeads][]uint16 // each in order
	count int
}

// none is behind the last step of any list.
const none = math.MaxInt

// start looks for the candidates from a place on.
func (c *candidates) start(x *index, seed maphash.Seed, f *Flow, from int) {
	c.add(x.rest, from)
	for i := range x.groups {
		g := &x.groups[i]
		switch {
		case g.ask != nil:
			if g.ask(f) != False {
				c.add(g.all, from)
			}
		case f.Known&g.need == g.need:
			c.add(g.with(g.variable.hash(seed, f)), from)
		case g.unknown != nil && c.fits(len(g.unknown.groups)+1, len(x.groups)-i):
			c.start(g.unknown, seed, f, from)
		default:
			c.add(g.all, from)
		}
	}
}

// fits reports whether there is room for more heads and one of each group that is left.
func (c *candidates) fits(more, left int) bool { return c.count+more+left <= maxHeads }

func (c *candidates) add(head []uint16, from int) {
	if from > 0 {
		i, _ := slices.BinarySearchFunc(head, from, func(place uint16, from int) int {
			return int(place) - from
		})
		head = head[i:]
	}
	if len(head) > 0 {
		c.heads[c.count] = head
		c.count++
	}
}

// next returns the first candidate that is not before a place.
func (c *candidates) next(from int) int {
	first := none
	for i := 0; i < c.count; i++ {
		head := c.heads[i]
		for len(head) > 0 && int(head[0]) < from {
			head = head[1:]
		}
		c.heads[i] = head
		if len(head) == 0 {
			c.count--
			c.heads[i] = c.heads[c.count]
			i--
		} else {
			first = min(first, int(head[0]))
		}
	}
	return first
}
