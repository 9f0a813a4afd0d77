// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "time"

// DefaultCoalesce makes a packet at 50,000 a second cost less than two thirds of
// what it does without (2.9 to 3.2 µs, else 5.1; 3.8 to 4.6 with 100 µs).
const DefaultCoalesce = 200 * time.Microsecond

const (
	// coalesceWindow is how many turns are judged together.
	coalesceWindow = 16
	// coalesceRecheck is after how many windows by the clock a queue is looked at
	// by events again, to see what it can do now: every 100 ms or so.
	coalesceRecheck = 32
	// coalesceMaxBytes is how many bytes in a turn are worth a wake-up: copying
	// them takes as long.
	coalesceMaxBytes = 32 << 10
	// coalesceMaxPacket is the average size from which on most packets are merged
	// ones: a TCP sender in bulk, which waits for acknowledgements (by the clock,
	// it sent 0.83 of what the loop in C let through).
	coalesceMaxPacket = 2048

	minBackoff = int64(10 * time.Millisecond)
	maxBackoff = int64(time.Second)
)

// turnStats say what a turn has brought.
type turnStats struct {
	packets, bytes int
	more           bool // the turn ended before the packets did
	paused         bool // the inspector wants no packets
}

// coalescer decides whether a queue gets its turns by events, as soon as a packet
// comes, or by the clock, so that several packets share the cost of waking up. It is
// adaptive, as the interrupt moderation of a network card.
//
// It tries turns by the clock where events are frequent. They must not cost
// throughput: a sender that waits for its packets to arrive sends less when they
// arrive later. Then the coalescer ends the trial, and makes the next one later each
// time.
type coalescer struct {
	interval int64 // between turns by the clock; 0 for never
	timed    bool  // by the clock

	began   int64 // of the window
	turns   int
	packets int
	bytes   int

	rate    float64 // by events, in packets a nanosecond
	windows int     // by the clock that cost no throughput
	retry   int64   // no trial before
	backoff int64
}

// turn accounts for a turn that ended now.
func (c *coalescer) turn(now int64, t turnStats) {
	c.turns++
	c.packets += t.packets
	c.bytes += t.bytes
	if c.turns < coalesceWindow {
		return
	}
	elapsed := now - c.began
	rate := float64(c.packets) / float64(max(elapsed, 1))
	switch {
	case c.interval == 0, c.bytes > c.packets*coalesceMaxPacket:
		c.timed = false
	case !c.timed:
		c.timed = c.promising(elapsed) && now >= c.retry
		c.rate, c.windows = rate, 0
	case rate < c.rate*3/5:
		c.timed = false
		c.backoff = min(max(2*c.backoff, minBackoff), maxBackoff)
		c.retry = now + c.backoff
	default:
		c.backoff = 0
		c.windows++
		c.timed = c.windows < coalesceRecheck
	}
	c.began, c.turns, c.packets, c.bytes = now, 0, 0, 0
}

// promising reports whether turns by the clock would be considerably fewer than
// those of the window by events.
func (c *coalescer) promising(elapsed int64) bool {
	return 3*elapsed < 2*coalesceWindow*c.interval && c.bytes < coalesceWindow*coalesceMaxBytes
}
