// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"io/fs"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Total adds up the counters of all netns that are or were under inspection
// since the daemon has started.
func (r *Registry) Total() api.Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := r.closedTotals
	for _, n := range r.netns {
		total.Add(n.counters())
	}
	return total
}

// Untold says why ends of flows were not told that their packets are rejected; nil where
// all were.
func (r *Registry) Untold() *api.Untold {
	n := r.datapaths.Untold()
	if n.TooMany+n.NoSocket+n.Unsent == 0 {
		return nil
	}
	return &api.Untold{
		TooMany: n.TooMany, NoSocket: n.NoSocket, Unsent: n.Unsent,
		SocketError: textOf(n.SocketError), SendError: textOf(n.SendError),
		NotPermitted: errors.Is(n.SocketError, fs.ErrPermission),
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Orphans returns how many packets daemons before this one had read but not
// answered when they died.
func (r *Registry) Orphans() uint64 { return r.orphans.Load() }

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
	for _, n := range r.netns {
		s := n.sample.Load()
		if s == nil || s.Length == 0 {
			continue
		}
		t.Waiting += s.Waiting
		t.Fullest = max(t.Fullest, float64(s.Waiting)/float64(s.Length))
	}
	return t
}

// sampleQueues keeps what the kernel has said of the queues of a netns.
func (r *Registry) sampleQueues(n lockedNetns) {
	s := n.datapath.SampleQueues()
	r.refused.queue.Add(s.QueueDropped)
	r.refused.socket.Add(s.SocketDropped)
	n.sample.Store(&s)
}
