// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// progress watches whether a program answers packets, and how soon.
type progress struct {
	waiting bool // when it was looked at last
	queues  map[uint16]queueProgress
}

// queueProgress is of one queue in which packets wait.
type queueProgress struct {
	answered uint32 // packets so far
	since    time.Time
	samples  []sample // the oldest first
}

// sample is the number of the newest packet at a time.
type sample struct {
	at     time.Time
	newest uint32
}

// maxSamples are enough for a packet that waits for some budgets.
const maxSamples = 4 * looks

// lag is how a program is behind.
type lag struct {
	// stuck is for how long no packet has been answered of a queue in which some wait.
	stuck time.Duration
	// oldest is for how long a packet waits at least.
	oldest time.Duration
	// waiting is how many do in the queue that is stuck for longest.
	waiting uint32
}

// look returns how the program is behind.
func (p *progress) look(stats []nfqueue.Stat, now time.Time) lag {
	last := p.queues
	p.queues, p.waiting = make(map[uint16]queueProgress), false
	var worst lag
	for _, s := range stats {
		if s.Waiting == 0 {
			continue
		}
		p.waiting = true
		q := last[s.Number].next(&s, now)
		p.queues[s.Number] = q
		if d := now.Sub(q.since); d >= worst.stuck {
			worst.stuck, worst.waiting = d, s.Waiting
		}
		worst.oldest = max(worst.oldest, q.oldest(now))
	}
	return worst
}

// next is the progress at the look after this one.
func (q queueProgress) next(s *nfqueue.Stat, now time.Time) queueProgress {
	answered := s.Sequence - s.Waiting
	if q.samples == nil || q.answered != answered {
		q.answered, q.since = answered, now
	}
	if len(q.samples) == maxSamples {
		q.samples = q.samples[1:]
	}
	q.samples = append(slices.Clip(q.samples), sample{now, s.Sequence})
	return q
}

// oldest is for how long the oldest packet that waits has been there at least.
func (q *queueProgress) oldest(now time.Time) time.Duration {
	for _, s := range q.samples {
		if int32(s.newest-q.answered) > 0 {
			return now.Sub(s.at)
		}
	}
	return 0
}
