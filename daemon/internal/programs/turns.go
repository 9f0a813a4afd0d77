// SPDX-License-Identifier: Apache-2.0

package programs

import "sync"

// turns has one at a time do with a group what it likes.
type turns struct {
	mu   sync.Mutex
	last map[string]chan struct{} // by group, what is closed at the end of the last turn
}

func newTurns() turns { return turns{last: make(map[string]chan struct{})} }

// take returns what is closed when the turn begins. It lasts until end.
func (t *turns) take(group string, done chan struct{}) (begins <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.last[group]
	t.last[group] = done
	if before == nil {
		before = make(chan struct{})
		close(before)
	}
	return before
}

// takeFree takes a turn that begins at once, and reports whether there is one.
func (t *turns) takeFree(group string, done chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last[group] != nil {
		return false
	}
	t.last[group] = done
	return true
}

// end closes done.
func (t *turns) end(group string, done chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last[group] == done {
		delete(t.last, group)
	}
	close(done)
}
