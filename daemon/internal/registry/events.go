// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// eventsLength is how many events are remembered, of routine, refusals and others each,
// and refusalsOfOne how many refusals of one attachment, so that one which is refused all
// the time does not make those of others forgotten.
const (
	eventsLength  = 512
	refusalsOfOne = 64
)

// events holds the latest events, the oldest first, and logs them. Those of routine
// are apart so that a node that is drained does not make it forget the others, and
// so are warnings, of which the authors of pods can make many, and refusals. It is safe
// for concurrent use.
type events struct {
	base *slog.Logger

	mu              sync.Mutex
	routine, others []api.Event
	refusals        []api.Event
	counts          map[api.EventKind]uint64
}

func newEvents(log *slog.Logger) *events {
	return &events{base: log, counts: make(map[api.EventKind]uint64)}
}

// log returns the logger of what is about an attachment.
func (e *events) log(rec *state.Record) *slog.Logger {
	log := e.base.With(slog.String("containerID", rec.ContainerID),
		slog.String("ifname", rec.Ifname), slog.String("pod", rec.Pod.String()),
		slog.Uint64("netns", rec.Netns.Cookie))
	if rec.Traceparent != "" {
		log = log.With(slog.String("traceparent", rec.Traceparent))
	}
	return log
}

// record remembers an event about an attachment.
func (e *events) record(kind api.EventKind, rec *state.Record, message string) {
	e.add(api.Event{
		Time: time.Now().UTC(), Kind: kind, Key: rec.Key, Pod: rec.Pod,
		Netns: rec.Netns.Cookie, Message: message,
	})
}

// report remembers an event about an attachment and logs it.
func (e *events) report(
	level slog.Level, kind api.EventKind, rec *state.Record, message string,
) {
	e.record(kind, rec, message)
	e.log(rec).Log(context.Background(), level, "event",
		slog.String("kind", string(kind)), slog.String("message", message))
}

// ReportRules remembers what is told of the rules, which are about no attachment, and logs
// it.
func (r *Registry) ReportRules(level slog.Level, message string) {
	r.events.add(api.Event{Time: time.Now().UTC(), Kind: api.EventRules, Message: message})
	r.events.base.Log(context.Background(), level, "rules", slog.String("message", message))
}

// ReportInspector remembers what is told of an inspector outside the daemon, and logs it.
func (r *Registry) ReportInspector(level slog.Level, message string) {
	r.events.add(api.Event{Time: time.Now().UTC(), Kind: api.EventInspector, Message: message})
	r.events.base.Log(context.Background(), level, "inspector", slog.String("message", message))
}

// ReportRefusal remembers what rules refused. It is not logged: there are many, and they
// have a file of their own.
func (r *Registry) ReportRefusal(event api.Event) {
	if a := r.named(event.Key); a != nil {
		event.Netns = a.record.Netns.Cookie
	}
	r.events.add(event)
}

// warn reports what the call that made the attachment was wrong about.
func (e *events) warn(rec *state.Record) {
	if len(rec.Warnings) > 0 {
		e.report(slog.LevelWarn, api.EventWarning, rec, strings.Join(rec.Warnings, "; "))
	}
}

func (e *events) add(event api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := &e.others
	switch {
	case event.Kind == api.EventRefusal || event.Kind == api.EventAudit:
		e.forgetFor(&event)
		list = &e.refusals
	case event.Kind.Routine() || event.Kind == api.EventWarning:
		list = &e.routine
	}
	if len(*list) == eventsLength {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, event)
	e.counts[event.Kind]++
}

// forgetFor makes room for a refusal. It takes the place of one that is alike, or of the
// oldest of its attachment where that has many.
func (e *events) forgetFor(event *api.Event) {
	oldest, count := -1, 0
	for i := range e.refusals {
		old := &e.refusals[i]
		if old.Key != event.Key {
			continue
		}
		if old.Kind == event.Kind && old.Refusal.Alike(event.Refusal) {
			event.Refusal.Count += old.Refusal.Count
			event.Refusal.Suppressed += old.Refusal.Suppressed
			e.refusals = slices.Delete(e.refusals, i, i+1)
			return
		}
		if count++; oldest < 0 {
			oldest = i
		}
	}
	if count >= refusalsOfOne {
		e.refusals = slices.Delete(e.refusals, oldest, oldest+1)
	}
}

func (e *events) list() []api.Event {
	e.mu.Lock()
	list := slices.Concat(e.routine, e.refusals, e.others)
	e.mu.Unlock()
	slices.SortStableFunc(list, func(a, b api.Event) int { return a.Time.Compare(b.Time) })
	return list
}

// about returns the events about an attachment, the oldest first.
func (e *events) about(key api.Key) []api.Event {
	return slices.DeleteFunc(e.list(), func(event api.Event) bool { return event.Key != key })
}

// counted returns how many events there were of each kind, also of those that are
// forgotten by now.
func (e *events) counted() map[api.EventKind]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.counts)
}
