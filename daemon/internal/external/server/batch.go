// SPDX-License-Identifier: Apache-2.0

package server

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
)

// batch is packets of one queue that travel together.
type batch struct {
	queue      *queue
	attachment uint32
	sequence   uint32 // once it was given to the socket, or waits for it
	isSent     bool
	builder    proto.Builder
	chunk      int // of the shared memory; −1: none
	bytes      int

	ids      []uint32
	held     []inspect.Deferred
	before   []inspect.Verdict // what was decided before the inspector was asked
	open     []bool            // which have no verdict
	left     int               // how many these are
	expected int               // the one whose verdict is expected

	deadline       time.Duration
	previous, next *batch
}

// newBatch returns an empty batch, which packets of a queue may be added to.
func (l *link) newBatch(q *queue, attachment uint32, now time.Duration) *batch {
	var b *batch
	if n := len(l.spare); n > 0 {
		b = l.spare[n-1]
		l.spare = l.spare[:n-1]
	} else {
		b = new(batch)
	}
	b.queue, b.attachment = q, attachment
	b.deadline = now + l.server.config.Budget
	var room []byte
	offset := uint32(0)
	b.chunk = -1
	if l.memory != nil {
		b.chunk, room, offset = l.memory.take()
	}
	b.builder.Reset(int(l.hello.Batch), room, offset)
	l.list.add(b)
	return b
}

// add adds a packet that was deferred. It returns false if there is no room.
func (b *batch) add(h *proto.Header, p *inspect.Packet, copyRange int) bool {
	captured := p.Payload[:min(len(p.Payload), copyRange)]
	if len(captured) < p.Length {
		h.Flags |= proto.FlagTruncated
	}
	if !b.builder.Add(h, captured) {
		return false
	}
	b.bytes += len(captured)
	return true
}

// keep notes the packet that was added last.
func (b *batch) keep(id uint32, d inspect.Deferred, before *inspect.Verdict) {
	b.ids, b.held = append(b.ids, id), append(b.held, d)
	b.before, b.open = append(b.before, *before), append(b.open, true)
	b.left++
}

// find returns the index of a packet that has no verdict, or −1.
func (b *batch) find(id uint32) int {
	n := len(b.ids)
	for i := range n {
		at := b.expected + i
		if at >= n {
			at -= n
		}
		if b.ids[at] == id {
			if !b.open[at] {
				return -1
			}
			b.expected = at + 1
			return at
		}
	}
	return -1
}

// recycle keeps the memory of a batch that is through.
func (l *link) recycle(b *batch) {
	clear(b.held)
	clear(b.before)
	*b = batch{
		builder: b.builder, ids: b.ids[:0], held: b.held[:0], before: b.before[:0],
		open: b.open[:0],
	}
	if len(l.spare) < maxSpare {
		l.spare = append(l.spare, b)
	}
}

// maxSpare is how many batches are kept for later, of 100 KiB or less each.
const maxSpare = 16

// giveUp has the packets of a batch that have no verdict released as OnFailure says.
func (l *link) giveUp(b *batch, to *releases) {
	for i, open := range b.open {
		if open {
			to.add(b.held[i], l.server.failed(&b.before[i]))
		}
	}
}

// batchList has batches in the order of their deadlines.
type batchList struct{ oldest, newest *batch }

func (s *batchList) add(b *batch) {
	b.previous = s.newest
	if s.newest != nil {
		s.newest.next = b
	} else {
		s.oldest = b
	}
	s.newest = b
}

func (s *batchList) remove(b *batch) {
	if b.previous != nil {
		b.previous.next = b.next
	} else {
		s.oldest = b.next
	}
	if b.next != nil {
		b.next.previous = b.previous
	} else {
		s.newest = b.previous
	}
	b.previous, b.next = nil, nil
}

// releases are packets with their verdicts.
type releases struct {
	held     []inspect.Deferred
	verdicts []inspect.Verdict
}

func (r *releases) add(d inspect.Deferred, v inspect.Verdict) {
	r.held, r.verdicts = append(r.held, d), append(r.verdicts, v)
}

// release gives all packets their verdicts, and empties the list.
func (r *releases) release() {
	if len(r.held) == 0 {
		return
	}
	inspect.ReleaseAll(r.held, r.verdicts)
	clear(r.held)
	clear(r.verdicts)
	r.held, r.verdicts = r.held[:0], r.verdicts[:0]
}
