// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
)

// showProgress prints what the command is doing, again and again, from the time on that a
// command may work in silence. Nothing is printed after the returned function has ended.
func (c *command) showProgress(doing func() string) (stop func()) {
	if c.progressAfter == 0 {
		return func() {}
	}
	tick, done := time.NewTicker(c.progressAfter), make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.tell("%s", doing())
			}
		}
	})
	return func() {
		tick.Stop()
		close(done)
		showing.Wait()
	}
}

// waitingFor is the nodes that are awaited.
type waitingFor struct {
	mu    sync.Mutex
	nodes []string
	of    int
}

func (w *waitingFor) set(nodes []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = slices.Clone(nodes)
	w.of = max(w.of, len(nodes))
}

// shownNodes is how many names a line has.
const shownNodes = 5

func (w *waitingFor) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := w.nodes[:min(len(w.nodes), shownNodes)]
	more := ""
	if n := len(w.nodes) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("waiting for %d of %s: %s%s", len(w.nodes), text.Plural(w.of, "node"),
		strings.Join(names, ", "), more)
}
