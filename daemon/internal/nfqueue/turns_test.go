// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestTurns(t *testing.T) {
	done := 0
	n := turns{done: func() { done++ }}
	want := func(what string, want int) {
		t.Helper()
		if done != want {
			t.Errorf("%s: done %d times, want %d", what, done, want)
		}
	}
	for range 2 {
		if n.begin() {
			t.Error("stopped before stop")
		}
	}
	n.end()
	n.stop()
	n.stop()
	want("one is under way", 0)
	if !n.begin() {
		t.Error("not stopped")
	}
	n.end()
	want("one from before is under way", 0)
	n.end()
	want("it has ended", 1)
	n.begin()
	n.end()
	want("a later one", 1)

	done = 0
	idle := turns{done: func() { done++ }}
	idle.stop()
	want("none was under way", 1)
	(&turns{}).stop() // tells nobody
}

// No turn is under way that began before stop when done is called.
func TestTurnsRace(t *testing.T) {
	for range 1000 {
		var under, done atomic.Int32
		n := turns{done: func() {
			done.Add(1)
			if under.Load() != 0 {
				t.Error("done during a turn")
			}
		}}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range 5 {
					if !n.begin() {
						under.Add(1)
						under.Add(-1)
					}
					n.end()
				}
			})
		}
		all.Go(n.stop)
		all.Wait()
		if done.Load() != 1 {
			t.Fatalf("done %d times", done.Load())
		}
	}
}
