// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"slices"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// tally is where a binding's packets are counted. It is replaced as a whole.
type tally struct {
	readers []*nfqueue.Reader
	// past are the counters of readers that are gone.
	past api.Counters
}

// publish makes the readers' counters visible. Those of the readers before them
// are not lost. The caller holds b.mu.
func (b *binding) publish(p *parts) {
	next := &tally{readers: make([]*nfqueue.Reader, len(p.lanes))}
	for i, l := range p.lanes {
		next.readers[i] = l.reader
	}
	if last := b.tally.Load(); last != nil {
		next.past = last.past
		for _, reader := range last.readers {
			if !slices.Contains(next.readers, reader) {
				next.past.Add(counted(reader))
			}
		}
	}
	b.tally.Store(next)
}

func (b *binding) counters() api.Counters {
	t := b.tally.Load()
	if t == nil {
		return api.Counters{}
	}
	sum := t.past
	for _, reader := range t.readers {
		sum.Add(counted(reader))
	}
	return sum
}

// counted returns a reader's counters.
func counted(reader *nfqueue.Reader) api.Counters {
	c := &reader.Counters
	return api.Counters{
		Packets: c.Packets.Load(), Bytes: c.Bytes.Load(),
		Accepted: c.Accepted.Load(), Dropped: c.Dropped.Load(), Queued: c.Queued.Load(),
		Settled: c.Settled.Load(), Malformed: c.Malformed.Load(), Panics: c.Panics.Load(),
		Overruns: c.Overruns.Load(), Flushed: c.Flushed.Load(),
		Errors: c.Errors.Load(), InspectNanoseconds: c.InspectNanoseconds.Load(),
	}
}

// carry adds what a binding that is gone has counted to what all of them have,
// once. The caller holds r.mu.
func (r *Registry) carry(b *binding) {
	now := b.counters()
	r.gone.Add(now)
	r.gone.Sub(b.carried)
	b.carried = now
}

// Total adds up the counters of all netns that are or were under inspection
// since the daemon has started.
func (r *Registry) Total() api.Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := r.gone
	for _, b := range r.bindings {
		total.Add(b.counters())
	}
	return total
}

// fill is how many packets waited in the queues of a netns, of how many that
// may.
type fill struct {
	waiting, length uint64
}

// full reports whether no packet had room; nobody has looked where f is nil.
func (f *fill) full() bool { return f != nil && f.length > 0 && f.waiting >= f.length }

// refused counts packets that found a queue or its socket full and were not let
// pass for it: the kernel does not count those that were.
type refused struct {
	queue, socket atomic.Uint64
}

// QueueTotals are what the kernel says of all queues together. Each netns is
// asked when it is verified, which is every 30 s.
type QueueTotals struct {
	// Waiting packets, without a verdict so far.
	Waiting uint64
	// Fullest is what part of its length the fullest netns' queues have waiting.
	Fullest float64
	// QueueFull and SocketFull count packets that were dropped because the queue
	// was full, or the socket's receive buffer.
	QueueFull, SocketFull uint64
}

// Queues returns what was found last.
func (r *Registry) Queues() QueueTotals {
	t := QueueTotals{QueueFull: r.refused.queue.Load(), SocketFull: r.refused.socket.Load()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bindings {
		f := b.fill.Load()
		if f == nil || f.length == 0 {
			continue
		}
		t.Waiting += f.waiting
		t.Fullest = max(t.Fullest, float64(f.waiting)/float64(f.length))
	}
	return t
}

// gauge keeps what the kernel has said of a binding's queues. The caller holds
// b.mu.
func (r *Registry) gauge(b *binding) {
	if b.parts == nil {
		return
	}
	var f fill
	for _, l := range b.parts.lanes {
		f.waiting += uint64(l.stat.Waiting)
		f.length += uint64(l.queue.Config().Length)
		if l.inherited && l.stat.PortID != 0 {
			l.inherited, l.seen = false, l.stat
		}
		r.refused.queue.Add(growth(l.seen.QueueDropped, l.stat.QueueDropped))
		r.refused.socket.Add(growth(l.seen.UserDropped, l.stat.UserDropped))
		l.seen = l.stat
	}
	b.fill.Store(&f)
}

// growth of a counter, which begins anew with a queue that is bound again.
func growth(from, to uint64) uint64 { return to - min(from, to) }
