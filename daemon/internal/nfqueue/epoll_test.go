// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"testing"
	"time"
)

// Of two pollers that could wait hot only one does, until it waits cold.
func TestHotWaits(t *testing.T) {
	hotWaits := NewHotWaits(1)
	pollers := make([]*Poller, 2)
	for i := range pollers {
		p, err := NewPoller(PollerOptions{CopyRange: 64, HotWaits: hotWaits})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		pollers[i] = p
	}
	wait := func(p *Poller, want bool) {
		t.Helper()
		n, err := p.waiter.waitHot(time.Millisecond.Nanoseconds())
		if n != 0 || err != nil {
			t.Fatalf("%d events, %v", n, err)
		}
		if p.waiter.holds != want {
			t.Errorf("waits hot: %t, want %t", p.waiter.holds, want)
		}
	}
	first, second := pollers[0], pollers[1]
	wait(first, true)
	wait(second, false)
	if err := first.Stop(); err != nil { // something to wake up for
		t.Fatal(err)
	}
	if ready, err := first.waiter.waitCold(); len(ready) != 1 || err != nil {
		t.Fatalf("%v, %v, want the event that ends Run", ready, err)
	}
	wait(second, true)
}
