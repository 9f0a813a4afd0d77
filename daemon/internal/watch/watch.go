// SPDX-License-Identifier: Apache-2.0

// Package watch shows inspected packets to whoever watches. Readers never wait
// for a watcher: one that is too slow misses packets, and can tell by their
// numbers.
package watch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// backlog is how many packets a watcher may be behind.
const backlog = 4096

// Hub connects readers and watchers. It is safe for concurrent use, and its
// zero value is ready.
type Hub struct {
	mu       sync.Mutex
	watchers atomic.Pointer[[]*watcher] // replaced under mu, never changed
}

type watcher struct {
	number atomic.Uint64
	events chan api.PacketEvent
}

// Observer returns the hub while somebody watches, else nil.
func (h *Hub) Observer() nfqueue.Observer {
	if w := h.watchers.Load(); w == nil || len(*w) == 0 {
		return nil
	}
	return h
}

// Observe offers the packet to every watcher.
func (h *Hub) Observe(p *inspect.Packet, v inspect.Verdict, mark uint32) {
	e := event(p, v, mark)
	for _, w := range *h.watchers.Load() {
		e.Packet = w.number.Add(1)
		select {
		case w.events <- e:
		default: // the watcher sees a gap in the numbers
		}
	}
}

// Watch calls started, then emit for every packet from that moment on, until
// ctx ends, which is no error, or one of them returns one.
func (h *Hub) Watch(
	ctx context.Context, started func() error, emit func(*api.PacketEvent) error,
) error {
	w := &watcher{events: make(chan api.PacketEvent, backlog)}
	h.add(w)
	defer h.remove(w)
	if err := started(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events:
			if err := emit(&e); err != nil {
				return err
			}
		}
	}
}

func (h *Hub) add(w *watcher) {
	h.update(func(ws []*watcher) []*watcher { return append(ws, w) })
}

func (h *Hub) remove(w *watcher) {
	h.update(func(ws []*watcher) []*watcher {
		return slices.DeleteFunc(ws, func(other *watcher) bool { return other == w })
	})
}

// update replaces the list by what change makes of a copy.
func (h *Hub) update(change func([]*watcher) []*watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ws []*watcher
	if old := h.watchers.Load(); old != nil {
		ws = slices.Clone(*old)
	}
	ws = change(ws)
	h.watchers.Store(&ws)
}

func event(p *inspect.Packet, v inspect.Verdict, mark uint32) api.PacketEvent {
	a := p.Attachment
	e := api.PacketEvent{
		Time: time.Now(),
		Key:  api.Key{ContainerID: a.ContainerID, Ifname: a.Ifname},
		Pod:  api.Pod{Namespace: a.PodNamespace, Name: a.PodName, UID: a.PodUID},

		Direction:  p.Direction.String(),
		Length:     p.Length,
		OriginMark: p.Mark,
		SetMark:    mark,
		Verdict:    v.Action.String(),
		Protocol:   "unknown",
	}
	if f, ok := p.Flow(); ok {
		e.Source, e.SourcePort = f.Source, f.SourcePort
		e.Destination, e.DestinationPort = f.Destination, f.DestinationPort
		e.Protocol = inspect.ProtocolName(f.Protocol)
	}
	return e
}
