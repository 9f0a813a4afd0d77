// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"slices"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/reject"
)

// Counters are what readers have counted; see [nfqueue.Counters].
type Counters struct {
	Packets, Bytes, Accepted, Dropped, Queued uint64
	Away                                      uint64
	Rejected, Untold, Settled                 uint64
	Malformed, Panics, Overruns, Flushed      uint64
	Deferred, Expired, Undeferred, Errors     uint64
	InspectNanoseconds                        uint64
}

func (c *Counters) add(r *nfqueue.Counters) {
	c.Packets += r.Packets.Load()
	c.Bytes += r.Bytes.Load()
	c.Accepted += r.Accepted.Load()
	c.Dropped += r.Dropped.Load()
	c.Queued += r.Queued.Load()
	c.Away += r.Away.Load()
	c.Rejected += r.Rejected.Load()
	c.Untold += r.Untold.Load()
	c.Settled += r.Settled.Load()
	c.Malformed += r.Malformed.Load()
	c.Panics += r.Panics.Load()
	c.Overruns += r.Overruns.Load()
	c.Deferred += r.Deferred.Load()
	c.Expired += r.Expired.Load()
	c.Undeferred += r.Undeferred.Load()
	c.Flushed += r.Flushed.Load()
	c.Errors += r.Errors.Load()
	c.InspectNanoseconds += r.InspectNanoseconds.Load()
}

// UntoldCounts say why ends were not told of rejected packets; see [reject.UntoldCounts].
type UntoldCounts = reject.UntoldCounts

// Untold returns them for all netns, also for those that are gone.
func (f *Factory) Untold() UntoldCounts { return f.untold.Counts() }

// readerCounters adds up what the readers of a netns have counted, also those that
// it has no more. One goroutine sets the readers; sum may be called at any time.
type readerCounters struct {
	now atomic.Pointer[countedReaders]
}

// countedReaders is replaced as a whole.
type countedReaders struct {
	readers []*nfqueue.Reader
	closed  Counters // of readers that were replaced
}

func (c *readerCounters) setReaders(readers []*nfqueue.Reader) {
	next := &countedReaders{readers: readers}
	if last := c.now.Load(); last != nil {
		next.closed = last.closed
		for _, reader := range last.readers {
			if !slices.Contains(readers, reader) {
				next.closed.add(&reader.Counters)
			}
		}
	}
	c.now.Store(next)
}

func (c *readerCounters) sum() Counters {
	now := c.now.Load()
	if now == nil {
		return Counters{}
	}
	sum := now.closed
	for _, reader := range now.readers {
		sum.add(&reader.Counters)
	}
	return sum
}

// Sample is what the kernel said of the queues of a netns when they were verified.
type Sample struct {
	// Waiting packets, of how many that may.
	Waiting, Length uint64
	// QueueDropped and SocketDropped count packets since the sample before that
	// found a queue or its socket full and were not let pass for it: the kernel
	// does not count those that were.
	QueueDropped, SocketDropped uint64
}

// QueueState is what the kernel says of a queue now; see [nfqueue.Stat].
type QueueState struct {
	Number                      uint16
	Length                      uint32
	Bound                       bool // by this process
	Waiting                     uint32
	QueueDropped, SocketDropped uint64
}

// growth of a counter, which begins at 0 with a queue that is bound again.
func growth(from, to uint64) uint64 { return to - min(from, to) }
