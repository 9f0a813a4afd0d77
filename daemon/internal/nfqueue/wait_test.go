// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"testing"
	"time"
)

// Of two pollers that could wait hot only one does, until it waits cold.
func TestSeats(t *testing.T) {
	seats := NewSeats(1)
	pollers := make([]*Poller, 2)
	for i := range pollers {
		p, err := NewPoller(PollerOptions{CopyRange: 64, Seats: seats})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Free(); err != nil {
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
		if p.waiter.seated != want {
			t.Errorf("seated: %t, want %t", p.waiter.seated, want)
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
