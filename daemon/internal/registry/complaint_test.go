// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		for _, step := range []struct {
			wait       time.Duration
			passes     bool
			suppressed uint64
		}{
			{0, true, 0},
			{0, false, 0},
			{complaintInterval - 1, false, 0},
			{1, true, 2},
			{complaintInterval, true, 0},
		} {
			time.Sleep(step.wait) //nolint:forbidigo // the bubble's time
			suppressed, passes := l.next()
			if passes != step.passes || suppressed != step.suppressed {
				t.Errorf("passes %t after %d, want %+v", passes, suppressed, step)
			}
		}
	})
}

// Events about the same come at a bounded rate and lose no count, and the status
// shows what is recent.
func TestComplaint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c complaint
		for _, step := range []struct {
			wait   time.Duration
			count  uint64
			tell   uint64
			recent bool
		}{
			{0, 0, 0, false},
			{0, 3, 3, true},
			{complaintInterval / 2, 5, 0, true},
			{complaintInterval / 2, 5, 2, true},
			{complaintRecent, 5, 0, false},
			{0, 6, 1, true},
		} {
			time.Sleep(step.wait) //nolint:forbidigo // the bubble's time
			if got := c.look(step.count); got != step.tell || c.recent() != step.recent {
				t.Errorf("tells of %d, recent %t, want %+v", got, c.recent(), step)
			}
		}
	})
}

func TestComplaintsProblem(t *testing.T) {
	var c complaints
	if c.problem() != nil {
		t.Error("a problem without a cause")
	}
	c.panics.look(3)
	c.panics.said = "out of range\n"
	c.overruns.look(2)
	got := *c.problem()
	for _, want := range []string{"3 times", `said "out of range\n"`, "2 batches"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}
