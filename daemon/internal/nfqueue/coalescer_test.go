// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"testing"
	"time"
)

// traffic is a sender that a coalescer is tried on: next returns when the first
// packet after now comes, and what is there at a time.
type traffic interface {
	next(now int64) int64
	take(now int64) int
}

// steady sends a packet every so often, whatever becomes of them.
type steady struct{ every, taken int64 }

func (s *steady) next(now int64) int64 { return max(now, s.taken+s.every) }

func (s *steady) take(now int64) int {
	n := (now - s.taken) / s.every
	s.taken += n * s.every
	return int(n)
}

// pingPong sends a packet so long after the last one was answered.
type pingPong struct{ after, answered int64 }

func (p *pingPong) next(now int64) int64 { return max(now, p.answered+p.after) }

func (p *pingPong) take(now int64) int {
	if now < p.answered+p.after {
		return 0
	}
	p.answered = now
	return 1
}

// drive runs the coalescer for a while, and returns how many turns it took and the
// time that was spent by the clock.
func drive(c *coalescer, t traffic, from, to int64, bytes int) (turns int, timed int64) {
	for now := from; now < to; {
		next := t.next(now)
		if c.timed {
			next = now + c.interval
			timed += c.interval
		}
		now = next
		n := t.take(now)
		c.turn(now, turnStats{packets: n, bytes: n * bytes})
		turns++
	}
	return turns, timed
}

const (
	us = int64(time.Microsecond)
	ms = int64(time.Millisecond)
	s  = int64(time.Second)
)

func TestCoalescerGathersSteadyLoad(t *testing.T) {
	c := &coalescer{interval: 200 * us}
	turns, timed := drive(c, &steady{every: 20 * us}, 0, s, 64)
	if timed < s*9/10 || turns > 7000 {
		t.Errorf("%d turns, %v by the clock, want 5,000 or some more, nearly all by the clock",
			turns, time.Duration(timed))
	}
}

// What comes seldom is never kept waiting.
func TestCoalescerLeavesSlowLoadAlone(t *testing.T) {
	c := &coalescer{interval: 200 * us}
	if _, timed := drive(c, &steady{every: 150 * us}, 0, s, 64); timed != 0 {
		t.Errorf("%v by the clock", time.Duration(timed))
	}
}

// What waits for answers is slowed down for less than two percent of the time,
// once that is known.
func TestCoalescerLeavesPingPongAlone(t *testing.T) {
	c := &coalescer{interval: 200 * us}
	p := &pingPong{after: 30 * us}
	drive(c, p, 0, 2*s, 64)
	if _, timed := drive(c, p, 2*s, 12*s, 64); timed == 0 || timed > 10*s/50 {
		t.Errorf("%v of 10 s by the clock, want some trials", time.Duration(timed))
	}
}

func TestCoalescerLeavesLargePacketsAlone(t *testing.T) {
	c := &coalescer{interval: 200 * us}
	if _, timed := drive(c, &steady{every: 20 * us}, 0, s, 64<<10); timed != 0 {
		t.Errorf("%v by the clock", time.Duration(timed))
	}
}

// When the load ends, the next packet finds the queue looked at by events, but
// for one window at most.
func TestCoalescerEndsWithTheLoad(t *testing.T) {
	c := &coalescer{interval: 200 * us}
	drive(c, &steady{every: 20 * us}, 0, 20*ms, 64)
	if !c.timed {
		t.Fatal("not by the clock under load")
	}
	_, timed := drive(c, &steady{every: s, taken: 20 * ms}, 20*ms, s, 64)
	if limit := 2 * coalesceWindow * c.interval; timed > limit {
		t.Errorf("%v by the clock after the end, want at most %v",
			time.Duration(timed), time.Duration(limit))
	}
}

func TestCoalescerOff(t *testing.T) {
	c := &coalescer{}
	if _, timed := drive(c, &steady{every: 20 * us}, 0, s, 64); timed != 0 || c.timed {
		t.Error("by the clock though that is off")
	}
}
