// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"sync"
	"testing"
)

func TestTakeUpToTheLimit(t *testing.T) {
	node := New(100, 0, nil)
	a, b := New(60, 0, node), New(60, 0, node)
	for _, step := range []struct {
		from *Account
		n    int
		want bool
	}{{a, 60, true}, {a, 1, false}, {b, 41, false}, {b, 40, true}, {b, 1, false}} {
		if got := step.from.Take(step.n); got != step.want {
			t.Fatalf("Take(%d) = %v", step.n, got)
		}
	}
	a.Give(60)
	if !b.Take(20) || node.Used() != 60 || a.Used() != 0 || b.Used() != 60 {
		t.Error(node.Used(), a.Used(), b.Used())
	}
}

func TestFloorOutlastsTheParent(t *testing.T) {
	node := New(100, 0, nil)
	greedy, modest := New(1000, 0, node), New(1000, 30, node)
	if !greedy.Take(100) || greedy.Take(1) {
		t.Fatal("greedy")
	}
	if !modest.Take(30) || modest.Take(1) || node.Used() != 130 {
		t.Error("modest", node.Used())
	}
	modest.Give(30)
	if node.Used() != 100 {
		t.Error(node.Used())
	}
}

func TestNoAccountHasNoLimit(t *testing.T) {
	var none *Account
	none.Give(1)
	if !none.Take(1<<40) || none.Used() != 0 {
		t.Error("limited")
	}
}

func TestGoroutinesShareAnAccount(t *testing.T) {
	node := New(1<<20, 0, nil)
	a := New(1000, 0, node)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if a.Take(300) {
					a.Give(300)
				}
			}
		})
	}
	all.Wait()
	if a.Used() != 0 || node.Used() != 0 {
		t.Error(a.Used(), node.Used())
	}
}
