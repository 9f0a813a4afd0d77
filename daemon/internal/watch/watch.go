// SPDX-License-Identifier: Apache-2.0

// Package watch shows inspected packets to watchers, to each those that it asks
// for. Readers never wait for a watcher: one that is too slow misses packets, and
// can tell by their numbers.
package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// backlog is how many packets a watcher may be behind, and backlogBytes how much
// of their content.
const (
	backlog      = 4096
	backlogBytes = 8 << 20
)

// look is how often it is looked for packets, and lookAtNode for addresses that
// the node has got or lost.
const (
	look       = 50 * time.Millisecond
	lookAtNode = 10 * time.Second
)

// Hub connects readers and watchers. It is safe for concurrent use, and its
// zero value is ready.
type Hub struct {
	mu       sync.Mutex
	watchers atomic.Pointer[[]*watcher] // replaced under mu, never changed

	nodeAddresses func() (addresses, error) // tests have their own
}

type watcher struct {
	filter filter
	rate   rateLimit
	number atomic.Uint64
	bytes  atomic.Int64 // of payloads in events
	events chan api.PacketEvent
	// wake is signalled when events should not wait for the clock.
	wake chan struct{}
}

// Observer returns the hub while there are watchers, else nil.
func (h *Hub) Observer() nfqueue.Observer {
	if w := h.watchers.Load(); w == nil || len(*w) == 0 {
		return nil
	}
	return h
}

// Observe offers the packet to every watcher that it is for.
func (h *Hub) Observe(p *inspect.Packet, v inspect.Verdict, mark uint32) {
	s := seen{packet: p, verdict: v, mark: mark}
	for _, w := range *h.watchers.Load() {
		if w.filter.wants(&s) {
			w.offer(&s)
		}
	}
}

// offer passes the packet on, or leaves a gap in the numbers where the watcher is
// too slow or it is more than its rate.
func (w *watcher) offer(s *seen) {
	number := w.number.Add(1)
	if !w.rate.allows() || len(w.events) == cap(w.events) {
		return
	}
	e := event(s, number)
	bytes := w.bytes.Load()
	if n := min(w.filter.request.Payload, len(s.packet.Payload)); n > 0 {
		if bytes += int64(n); bytes > backlogBytes {
			return
		}
		e.Payload = slices.Clone(s.packet.Payload[:n])
	}
	w.bytes.Add(int64(len(e.Payload)))
	select {
	case w.events <- e:
	default:
		w.bytes.Add(-int64(len(e.Payload)))
	}
	if len(w.events) >= backlog/2 || bytes > backlogBytes/2 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch calls started once and then emit for the matching packets, some at a
// time, until ctx ends or one of them returns an error. Where few come, it looks
// for them by the clock, so that no reader has to wake a watcher.
func (h *Hub) Watch(
	ctx context.Context, req api.WatchRequest, started func() error,
	emit func([]api.PacketEvent) error,
) error {
	w := &watcher{
		events: make(chan api.PacketEvent, backlog),
		wake:   make(chan struct{}, 1),
	}
	if err := errors.Join(w.filter.init(req), w.lookAtNode(h.nodeAddresses)); err != nil {
		return err
	}
	w.rate.setRate(req.Rate, time.Now())
	tick := time.NewTicker(look)
	defer tick.Stop()
	changes := time.NewTicker(lookAtNode)
	defer changes.Stop()
	h.add(w)
	defer h.remove(w)
	if err := started(); err != nil {
		return err
	}
	var events []api.PacketEvent
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes.C:
			// What was known is better than nothing.
			_ = w.lookAtNode(h.nodeAddresses)
		case now := <-tick.C:
			w.rate.renew(now)
		case <-w.wake:
		}
		clear(events) // of payloads
		if events = w.take(events[:0]); len(events) == 0 {
			continue
		}
		if err := emit(events); err != nil {
			return err
		}
	}
}

// lookAtNode finds the node's addresses where their packets are left out.
func (w *watcher) lookAtNode(find func() (addresses, error)) error {
	if !w.filter.request.NoProbes {
		return nil
	}
	if find == nil {
		find = nodeAddresses
	}
	node, err := find()
	if err == nil {
		w.filter.node.Store(&node)
	}
	return err
}

// take appends what has come.
func (w *watcher) take(events []api.PacketEvent) []api.PacketEvent {
	for range len(w.events) {
		e := <-w.events
		w.bytes.Add(-int64(len(e.Payload)))
		events = append(events, e)
	}
	return events
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

func event(s *seen, number uint64) api.PacketEvent {
	p, a := s.packet, s.packet.Attachment
	e := api.PacketEvent{
		Packet: number, Time: time.Now(),
		Key: api.Key{ContainerID: a.ContainerID, Ifname: a.Ifname},
		Pod: api.Pod{Namespace: a.PodNamespace, Name: a.PodName, UID: a.PodUID},

		Direction:  p.Direction.String(),
		Length:     p.Length,
		OriginMark: p.Mark,
		SetMark:    s.mark,
		Verdict:    s.verdict.Action.String(),
		Rule:       api.CutRule(s.verdict.Reason),
		Protocol:   "unknown",
	}
	if f, ok := s.headers(); ok {
		e.Source, e.SourcePort = f.Source, f.SourcePort
		e.Destination, e.DestinationPort = f.Destination, f.DestinationPort
		e.Protocol = inspect.ProtocolName(f.Protocol)
	}
	return e
}
