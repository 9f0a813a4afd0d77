// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// A program makes progress if it answers packets, however many wait.
func TestProgress(t *testing.T) {
	var p progress
	now := time.Now()
	step := func(after time.Duration, sequence, waiting uint32) lag {
		now = now.Add(after)
		return p.look([]nfqueue.Stat{{Number: 80, Sequence: sequence, Waiting: waiting}}, now)
	}
	for i, s := range []struct {
		sequence, waiting uint32
		stuck, oldest     time.Duration
	}{
		{10, 0, 0, 0}, // none wait
		{15, 5, 0, 0}, // some do, for how long is not known
		{20, 5, 0, 0}, // others
		{30, 15, time.Second, time.Second},
		{30, 15, 2 * time.Second, 2 * time.Second},
		{31, 15, 0, 3 * time.Second}, // one was answered
		{40, 20, 0, 3 * time.Second},
		{41, 21, time.Second, 4 * time.Second},
		{41, 0, 0, 0},
		{42, 1, 0, 0},
	} {
		got := step(time.Second, s.sequence, s.waiting)
		if got.stuck != s.stuck || got.oldest != s.oldest || got.stuck > 0 && got.waiting != s.waiting {
			t.Errorf("look %d: %+v, want %+v", i, got, s)
		}
		if p.waiting != (s.waiting > 0) {
			t.Errorf("look %d: waiting %v", i, p.waiting)
		}
	}
}

func TestLineLimit(t *testing.T) {
	now := time.Now()
	l := lineLimit{left: lineBurst, last: now}
	for range lineBurst {
		if ok, _ := l.allow(now); !ok {
			t.Fatal("the first lines are not logged")
		}
	}
	for range 7 {
		if ok, _ := l.allow(now); ok {
			t.Fatal("more than the first lines are logged")
		}
	}
	if ok, suppressed := l.allow(now.Add(lineRefill)); !ok || suppressed != 7 {
		t.Errorf("%v, %d suppressed, want 7", ok, suppressed)
	}
	if ok, _ := l.allow(now.Add(lineRefill + 1)); ok {
		t.Error("too many lines a second are logged")
	}
}

func TestAway(t *testing.T) {
	for a, want := range map[Away][2]bool{
		AwayPolicy: {false, true}, AwayAccept: {true, true}, AwayDrop: {false, false},
		AwayRules: {true, true},
	} {
		if got := [2]bool{a.Accepts(false), a.Accepts(true)}; got != want {
			t.Errorf("%d: %v, want %v", a, got, want)
		}
	}
}
