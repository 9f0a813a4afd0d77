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

// backoff decides by the daemon's deaths when to start it again.
type backoff struct {
	max    int // within window; zero is no limit
	window time.Duration
	recent []time.Time
	streak int
}

// next records a death of a daemon that lived for so long, and returns how long
// to wait for the next start: not at all after the first death, then longer
// each time until a daemon outlives the window.
func (b *backoff) next(now time.Time, lived time.Duration) time.Duration {
	b.recent = slices.DeleteFunc(b.recent, func(t time.Time) bool {
		return now.Sub(t) >= b.window
	})
	b.recent = append(b.recent, now)
	if lived >= b.window {
		b.streak = 0
	}
	b.streak++
	if b.streak == 1 {
		return 0
	}
	// Five doublings are more than the longest delay.
	return min(firstDelay<<min(b.streak-2, 6), maxDelay)
}

// tooMany reports whether it is time to give up.
func (b *backoff) tooMany() bool { return b.max > 0 && len(b.recent) >= b.max }
