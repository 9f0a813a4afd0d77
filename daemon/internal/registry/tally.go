// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
)

// tally is where a binding's packets are counted. It is replaced as a whole.
type tally struct {
	parts *datapath.Datapath
	past  api.Counters // of the parts before
}

// publish makes the counters of p visible. Those of the parts before are not
// lost. The caller holds b.mu.
func (b *binding) publish(p *datapath.Datapath) {
	next := &tally{parts: p}
	if last := b.tally.Load(); last != nil {
		if last.parts == p {
			return
		}
		next.past = last.sum()
	}
	b.tally.Store(next)
}

func (b *binding) counters() api.Counters {
	t := b.tally.Load()
	if t == nil {
		return api.Counters{}
	}
	return t.sum()
}

func (t *tally) sum() api.Counters {
	sum := t.past
	sum.Add(api.Counters(t.parts.Counters()))
	return sum
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

// full reports whether no packet had room when the queues were verified last.
func (b *binding) full() bool {
	s := b.sample.Load()
	return s != nil && s.Length > 0 && s.Waiting >= s.Length
}

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
		s := b.sample.Load()
		if s == nil || s.Length == 0 {
			continue
		}
		t.Waiting += s.Waiting
		t.Fullest = max(t.Fullest, float64(s.Waiting)/float64(s.Length))
	}
	return t
}

// gauge keeps what the kernel has said of a binding's queues. The caller holds
// b.mu.
func (r *Registry) gauge(b *binding) {
	s := b.parts.SampleQueues()
	r.refused.queue.Add(s.QueueDropped)
	r.refused.socket.Add(s.SocketDropped)
	b.sample.Store(&s)
}
