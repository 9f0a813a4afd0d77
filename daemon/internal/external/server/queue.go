// SPDX-License-Identifier: Apache-2.0

package server

import "github.com/nsqueue/nsqueue/daemon/inspect"

// queue is a queue of the kernel whose packets go to the inspector.
type queue struct {
	deferrer   inspect.Deferrer
	attachment *inspect.Attachment
	// waiting are batches that cannot be sent yet. Packets are added to the last one.
	waiting  []*batch
	inFlight int
	paused   bool
}

// pauser is who can leave the packets of a queue in the kernel for a while.
type pauser interface {
	Pause()
	Resume()
}

func (l *link) queueOf(p *inspect.Packet) *queue {
	q := l.queues[p.Deferrer]
	if q == nil {
		q = &queue{deferrer: p.Deferrer, attachment: p.Attachment}
		l.queues[p.Deferrer] = q
	}
	return q
}

func (q *queue) isIdle() bool { return q.inFlight == 0 && len(q.waiting) == 0 }

// pause has further packets wait in the kernel, which knows by the failure policy what to
// do when there are too many.
func (q *queue) pause() {
	if p, ok := q.deferrer.(pauser); ok && !q.paused {
		q.paused = true
		p.Pause()
	}
}

func (q *queue) resume() {
	if p, ok := q.deferrer.(pauser); ok && q.paused {
		q.paused = false
		p.Resume()
	}
}

// eager is how many batches of a queue an inspector has before the next one waits until it
// is full. One that takes long for a batch does not hold up all others.
const eager = 2

// flush sends what may be sent of a queue. What comes while the inspector is busy shares
// batches.
func (l *link) flush(q *queue) {
	for l.mayFlush(q) {
		b := q.waiting[0]
		q.waiting = q.waiting[:copy(q.waiting, q.waiting[1:])]
		l.sequence++
		b.sequence = l.sequence
		q.inFlight++
		l.sent[b.sequence] = b
		l.sendLocked(message{batch: b})
	}
	if len(q.waiting) > 0 && l.hasEnough(q) {
		q.pause()
	} else {
		q.resume()
	}
}

// hasEnough reports whether no further batch goes to the inspector before it has answered.
func (l *link) hasEnough(q *queue) bool {
	return q.inFlight >= int(l.hello.InFlight) || len(l.late) > 0
}

func (l *link) mayFlush(q *queue) bool {
	switch {
	case len(q.waiting) == 0 || l.hasEnough(q):
		return false
	case q.inFlight < eager || len(q.waiting) > 1:
		return true
	}
	return q.waiting[0].builder.Count() >= int(l.hello.Batch)
}

// done ends a batch whose packets have their verdicts.
func (l *link) done(b *batch) {
	q := b.queue
	l.list.remove(b)
	delete(l.sent, b.sequence)
	l.bytes -= b.bytes
	if b.chunk >= 0 {
		l.memory.give(b.chunk)
	}
	l.recycle(b)
	q.inFlight--
	l.flush(q)
}
