// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync/atomic"
	"testing"
)

// Who waits for room learns of each close, and nothing is awaited where none is
// under way.
func TestClosings(t *testing.T) {
	const sockets = 3 * maxClosers
	c := newClosings()
	if c.next() != nil {
		t.Fatal("a close is under way before the first")
	}
	var now atomic.Int32
	let := make(chan struct{})
	for range sockets {
		c.start(func() {
			if n := now.Add(1); n > maxClosers {
				t.Errorf("%d at a time", n)
			}
			<-let
			now.Add(-1)
		})
	}
	for left := sockets; left > 0; left-- {
		ended := c.next()
		if ended == nil {
			t.Fatalf("none under way, %d left", left)
		}
		select {
		case <-ended:
			t.Fatal("one has ended that was not let")
		default:
		}
		let <- struct{}{}
		<-ended
	}
	c.wait()
	if c.next() != nil {
		t.Error("a close is under way after the last")
	}
}
