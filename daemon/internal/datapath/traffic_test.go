// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// What is traffic past the hook, and what only looks like it.
func TestPastRule(t *testing.T) {
	traffic := func(rx, tx, size uint64) netns.Traffic {
		return netns.Traffic{RxPackets: rx, TxPackets: tx, RxBytes: rx * size, TxBytes: tx * size}
	}
	for name, tt := range map[string]struct {
		moved netns.Traffic
		seen  uint64
		past  bool
	}{
		"idle":                        {traffic(0, 0, 0), 0, false},
		"few packets":                 {traffic(99, 99, 100), 0, false},
		"received for others":         {traffic(100000, 3, 100), 0, false},
		"sent only":                   {traffic(3, 100000, 100), 0, false},
		"ARP both ways":               {traffic(5000, 5000, 42), 0, false},
		"ARP from a wire, padded":     {traffic(5000, 5000, 60), 0, false},
		"a virtual machine":           {traffic(100, 100, 98), 0, true},
		"all inspected":               {traffic(100, 100, 98), 200, false},
		"merged packets":              {traffic(45000, 45000, 1500), 1000, false},
		"a flowtable's first packets": {traffic(500000, 500000, 1500), 20, true},
		"other interfaces too":        {traffic(100, 100, 98), 10000, false},
	} {
		if past := significant(tt.moved) && !meets(tt.moved, tt.seen); past != tt.past {
			t.Errorf("%s: past the hook %t, want %t", name, past, tt.past)
		}
	}
}

// Counters begin at 0 with the interface.
func TestGrownRestarts(t *testing.T) {
	from := netns.Traffic{RxBytes: 9, RxPackets: 9, TxBytes: 9, TxPackets: 1}
	to := netns.Traffic{RxBytes: 1, RxPackets: 1, TxBytes: 1, TxPackets: 3}
	if got, want := grown(from, to), (netns.Traffic{TxPackets: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSelectsAll(t *testing.T) {
	for _, tt := range []struct {
		s    hook.Selector
		want bool
	}{
		{hook.Selector{Directions: hook.AllDirections}, true},
		{hook.Selector{Directions: hook.In | hook.Out}, false},
		{hook.Selector{Directions: hook.AllDirections, Protocols: []uint8{6}}, false},
	} {
		if got := selectsAll(&tt.s); got != tt.want {
			t.Errorf("%+v: %t, want %t", tt.s, got, tt.want)
		}
	}
}

// Traffic past the hook is told of after two looks, until the hook sees packets.
// The stack is asked only where the hook does not count all that meets it.
func TestComparison(t *testing.T) {
	var counters hook.Counters
	var traffic netns.Traffic
	var sent uint64
	move := func(packets uint64) {
		traffic.RxPackets += packets
		traffic.TxPackets += packets
		traffic.RxBytes += 1000 * packets
		traffic.TxBytes += 1000 * packets
	}
	for name, asksStack := range map[string]bool{"all": false, "a selection": true} {
		var w trafficWatch
		from := trafficSource{hook: func() (hook.Counters, error) { return counters, nil }}
		if asksStack {
			from.sent = func() (uint64, error) { return sent, nil }
		}
		for i, step := range []struct {
			moved, read, queued, sent uint64
			meets, past               bool
		}{
			{moved: 500}, // the first look knows nothing
			{moved: 500},
			{moved: 500, past: true},
			{moved: 10}, // too little to tell
			{moved: 500},
			{moved: 500, read: 500, meets: true},
			{moved: 500, queued: 500, meets: true},
			{moved: 500, sent: 500, meets: asksStack},
		} {
			move(step.moved)
			from.read += step.read
			counters.Queued += step.queued
			sent += step.sent
			c, err := w.compare(traffic, from)
			if err != nil || c.Meets != step.meets || c.Past != step.past {
				t.Errorf("%s, step %d: %+v, %v; want %+v", name, i, c, err, step)
			}
		}
	}
}
