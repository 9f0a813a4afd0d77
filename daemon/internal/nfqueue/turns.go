// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"sync"
	"sync/atomic"
)

// turns counts the turns of a reader that have begun and not ended. They are several
// where an inspector overran its time and another goroutine goes on.
type turns struct {
	count atomic.Int64 // and stopped, from stop on
	once  sync.Once
	done  func() // called once when turns that began before stop have ended; nil for none
}

const stopped = 1 << 62

// begin counts a turn, and reports whether it comes after stop.
func (t *turns) begin() bool { return t.count.Add(1)&stopped != 0 }

// end ends a turn that begin has counted.
func (t *turns) end() { t.finish(t.count.Add(-1) == stopped) }

// stop says that turns after it do not count.
func (t *turns) stop() { t.finish(t.count.Or(stopped) == 0) }

func (t *turns) finish(last bool) {
	if last && t.done != nil {
		t.once.Do(t.done)
	}
}
