// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"slices"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 10 * time.Second
	// ignoredPatience is how long pods under failure policy Ignore may wait for
	// a daemon. A restart takes less where nothing is wrong.
	ignoredPatience = 500 * time.Millisecond
)

// deaths decides by the daemon's deaths when to start it again.
type deaths struct {
	max    int // within window; zero is no limit
	window time.Duration
	recent []time.Time
	streak int
}

// next records a death of a daemon that lived for so long, and returns how long
// to wait for the next start: not at all after the first death, then longer
// each time until a daemon outlives the window.
func (d *deaths) next(now time.Time, lived time.Duration) time.Duration {
	d.recent = slices.DeleteFunc(d.recent, func(t time.Time) bool {
		return now.Sub(t) >= d.window
	})
	d.recent = append(d.recent, now)
	if lived >= d.window {
		d.streak = 0
	}
	d.streak++
	if d.streak == 1 {
		return 0
	}
	// Five doublings are more than the longest delay.
	return min(firstDelay<<min(d.streak-2, 6), maxDelay)
}

// tooMany reports whether it is time to give up.
func (d *deaths) tooMany() bool { return d.max > 0 && len(d.recent) >= d.max }
