// SPDX-License-Identifier: Apache-2.0

package registry

import "time"

// graveTime is how old an attachment is at least before an empty netns counts
// for a pod that is gone: a runtime makes the netns before its processes.
const graveTime = 30 * time.Second

// sight is what was found of something that is looked for.
type sight int

const (
	unknown sight = iota // it may be there: it cannot be seen from here
	there
	absent
)

// evidence is what speaks for a pod's life or death. Only what was looked for
// where it would be seen is absent.
type evidence struct {
	// path: the netns is at the path by which it was found. It is absent only if this
	// process has seen it there.
	path sight
	// holders: a process is in the netns, or the node has it mounted.
	holders sight
	// link: the netns has the interface.
	link sight
	// held: our sockets keep the netns, which is inspected.
	held bool
	age  time.Duration
}

// conclusion is what follows from evidence.
type conclusion int

const (
	undecided conclusion = iota // something that must be known cannot be seen
	alive
	young // too young to tell
	gone
)

// conclude weighs evidence. docs/reliability.md has the same as a table.
func (e evidence) conclude() conclusion {
	switch {
	case e.path == there, e.holders == there:
		return alive
	case e.holders == unknown && e.path == absent && !e.held:
		return gone
	case e.holders == unknown:
		return undecided
	case !e.held, e.link == absent, e.age >= graveTime:
		return gone
	}
	return young
}
