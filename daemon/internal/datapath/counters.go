// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Counters are what readers have counted; see [nfqueue.Counters].
type Counters struct {
	Packets, Bytes, Accepted, Dropped, Queued, Settled uint64
	Malformed, Panics, Overruns, Flushed, Errors       uint64
	InspectNanoseconds                                 uint64
}

func (c *Counters) add(r *nfqueue.Counters) {
	c.Packets += r.Packets.Load()
	c.Bytes += r.Bytes.Load()
	c.Accepted += r.Accepted.Load()
	c.Dropped += r.Dropped.Load()
	c.Queued += r.Queued.Load()
	c.Settled += r.Settled.Load()
	c.Malformed += r.Malformed.Load()
	c.Panics += r.Panics.Load()
	c.Overruns += r.Overruns.Load()
	c.Flushed += r.Flushed.Load()
	c.Errors += r.Errors.Load()
	c.InspectNanoseconds += r.InspectNanoseconds.Load()
}

// counted is where packets are counted. It is replaced as a whole.
type counted struct {
	readers []*nfqueue.Reader
	closed  Counters // of readers whose queues are closed
}

// publish makes the readers' counters visible. Those of the readers before them
// are not lost.
func (d *Datapath) publish() {
	next := &counted{readers: make([]*nfqueue.Reader, len(d.lanes))}
	for i, l := range d.lanes {
		next.readers[i] = l.reader
	}
	if last := d.counted.Load(); last != nil {
		next.closed = last.closed
		for _, reader := range last.readers {
			if !slices.Contains(next.readers, reader) {
				next.closed.add(&reader.Counters)
			}
		}
	}
	d.counted.Store(next)
}

// Counters adds up what the readers have counted, also those of queues that are
// closed. It may be called at any time.
func (d *Datapath) Counters() Counters {
	now := d.counted.Load()
	if now == nil {
		return Counters{}
	}
	sum := now.closed
	for _, reader := range now.readers {
		sum.add(&reader.Counters)
	}
	return sum
}

// TakePanic returns what a panic said since it was asked last, empty for none.
func (d *Datapath) TakePanic() string {
	said := ""
	for _, l := range d.lanes {
		said = cmp.Or(l.reader.TakePanic(), said)
	}
	return said
}

// HookCounters returns what the hook did.
func (d *Datapath) HookCounters() (hook.Counters, error) { return d.handle.Counters() }

// Sample is what the kernel said of a netns' queues when they were verified.
type Sample struct {
	// Waiting packets, of how many that may.
	Waiting, Length uint64
	// QueueDropped and SocketDropped count packets since the sample before that
	// found a queue or its socket full and were not let pass for it: the kernel
	// does not count those that were.
	QueueDropped, SocketDropped uint64
}

// SampleQueues returns what the latest Verify or Check has heard from the kernel.
func (d *Datapath) SampleQueues() Sample {
	var s Sample
	for _, l := range d.lanes {
		s.Waiting += uint64(l.stat.Waiting)
		s.Length += uint64(l.queue.Config().Length)
		if l.inherited && l.stat.PortID != 0 {
			l.inherited, l.seen = false, l.stat
		}
		s.QueueDropped += growth(l.seen.QueueDropped, l.stat.QueueDropped)
		s.SocketDropped += growth(l.seen.UserDropped, l.stat.UserDropped)
		l.seen = l.stat
	}
	return s
}

// growth of a counter, which begins anew with a queue that is bound again.
func growth(from, to uint64) uint64 { return to - min(from, to) }

// QueueState is what the kernel says of a queue now.
type QueueState struct {
	Number                    uint16
	Length                    uint32
	Bound                     bool
	Waiting                   uint32
	QueueDropped, UserDropped uint64
}

// QueueStates asks the kernel for the queues.
func (d *Datapath) QueueStates() ([]QueueState, error) {
	stats, err := nfqueue.Stats(d.ns)
	if err != nil {
		return nil, err
	}
	var states []QueueState
	for _, l := range d.lanes {
		stat, bound, err := l.queue.In(stats)
		if err != nil {
			return nil, err
		}
		states = append(states, QueueState{
			Number: l.number(), Length: l.queue.Config().Length, Bound: bound,
			Waiting:      stat.Waiting,
			QueueDropped: stat.QueueDropped, UserDropped: stat.UserDropped,
		})
	}
	return states, nil
}
