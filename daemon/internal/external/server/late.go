// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// lateBatches are those whose time was over when they had no verdicts, by sequence. While
// there are some, the inspector has not caught up and gets no packets.
type lateBatches map[uint32]lateBatch

// lateBatch is what is left to come of a batch.
type lateBatch struct {
	left  int
	chunk int // that the inspector may read; −1: none
}

// answerLate takes verdicts that nobody waits for any more.
func (l *link) answerLate(v *proto.Verdicts) error {
	b, ok := l.late[v.Sequence]
	if b.left -= v.Len(); !ok || b.left < 0 {
		return fmt.Errorf("%w: batch %d is unknown", proto.ErrMalformed, v.Sequence)
	}
	l.late[v.Sequence] = b
	if b.left > 0 {
		return nil
	}
	delete(l.late, v.Sequence)
	if b.chunk >= 0 {
		l.memory.give(b.chunk)
	}
	if len(l.late) == 0 {
		l.caughtUp = true
		for _, q := range l.queues {
			l.flush(q)
		}
	}
	return nil
}

// minWait is how long the timer runs at least.
const minWait = time.Millisecond

// armLocked has the timer run when the oldest batch has waited for its budget.
func (l *link) armLocked() {
	if l.list.oldest == nil || l.due != 0 || l.closed {
		return
	}
	l.due = l.list.oldest.deadline
	wait := max(l.due-l.clock(), minWait)
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.expire)
		return
	}
	l.timer.Reset(wait)
}

// expire releases packets that have waited for longer than the budget, as OnFailure says.
// The timer calls it.
func (l *link) expire() {
	var late releases
	l.mu.Lock()
	l.due = 0
	now, were := l.clock(), len(l.late)
	for b := l.list.oldest; b != nil && b.deadline <= now && !l.closed; b = l.list.oldest {
		l.giveUp(b, &late)
		l.drop(b)
	}
	l.armLocked()
	stalls := were == 0 && len(l.late) > 0
	l.mu.Unlock()
	l.server.counters.late.Add(uint64(len(late.held)))
	count := len(late.held)
	late.release()
	if stalls {
		l.server.events.stalled(l, count)
		l.server.wakeAcceptor()
	}
}

// drop ends a batch that was given up. The inspector may still read and answer it, if it
// was sent.
func (l *link) drop(b *batch) {
	q := b.queue
	l.list.remove(b)
	l.bytes -= b.bytes
	switch {
	case b.isSent:
		l.late[b.sequence] = lateBatch{b.left, b.chunk}
	case b.chunk >= 0:
		l.memory.give(b.chunk)
	}
	if b.sequence != 0 {
		q.inFlight--
		delete(l.sent, b.sequence)
		l.outbox.withdraw(b)
	} else if len(q.waiting) > 0 { // it is the oldest
		q.waiting = q.waiting[:copy(q.waiting, q.waiting[1:])]
	}
	l.recycle(b)
	l.flush(q)
}

func (s *Server) wakeAcceptor() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}
