// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// minReceiveBuffer is what each queue keeps however many there are: the
// kernel's usual default, 256 small packets.
const minReceiveBuffer = 212992

// buffers divides the node's memory for receive buffers among the queues. All
// have the same size: the configured one, halved until they fit together.
type buffers struct {
	total int
	want  int

	mu     sync.Mutex
	each   int // what all queues have now
	queues map[*nfqueue.Queue]struct{}
}

func newBuffers(total, want int) *buffers {
	return &buffers{
		total: total, want: want, each: want, queues: make(map[*nfqueue.Queue]struct{}),
	}
}

// size returns what each of n queues gets.
func (b *buffers) size(n int) int {
	size := b.want
	for size > minReceiveBuffer && n*size > b.total {
		size /= 2
	}
	return max(size, min(b.want, minReceiveBuffer))
}

// add gives the queue its share, and makes room for it where it has to.
func (b *buffers) add(q *nfqueue.Queue) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queues[q] = struct{}{}
	if each := b.size(len(b.queues)); each != b.each {
		return b.resizeLocked(each)
	}
	return q.SetReceiveBuffer(b.each)
}

// remove takes the queue's share back, for the others where it makes a
// difference.
func (b *buffers) remove(q *nfqueue.Queue) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.queues, q)
	if each := b.size(len(b.queues)); each != b.each {
		return b.resizeLocked(each)
	}
	return nil
}

func (b *buffers) resizeLocked(each int) error {
	b.each = each
	var errs []error
	for q := range b.queues {
		errs = append(errs, q.SetReceiveBuffer(each))
	}
	return errors.Join(errs...)
}

// BufferStatus is how the memory for receive buffers is divided.
type BufferStatus struct {
	Queues int
	// Wanted is what each queue is to have, Each what it is asked for, so that all
	// of them stay within Total.
	Wanted, Each, Total int
	// Possible is how much of Each the kernel grants.
	Possible int
}

// status tells how the memory is divided, and whether the kernel grants it.
func (b *buffers) status() (BufferStatus, error) {
	b.mu.Lock()
	s := BufferStatus{
		Queues: len(b.queues), Wanted: b.want, Each: b.each, Total: b.total,
	}
	b.mu.Unlock()
	granted, err := nfqueue.GrantedBuffer(s.Each)
	s.Possible = min(granted, s.Each)
	return s, err
}
