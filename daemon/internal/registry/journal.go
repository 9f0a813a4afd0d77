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

// journalLength is how many events are remembered, routine and others each.
const journalLength = 512

// journal holds the latest events, the oldest first. Those of routine are apart
// so that a node that is drained does not make it forget the others, and so are
// warnings, of which the authors of pods can make many.
type journal struct {
	mu              sync.Mutex
	routine, others []api.Event
	counts          map[api.EventKind]uint64
}

func (j *journal) add(e api.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := &j.others
	if e.Kind.Routine() || e.Kind == api.EventWarning {
		events = &j.routine
	}
	if len(*events) == journalLength {
		*events = slices.Delete(*events, 0, 1)
	}
	*events = append(*events, e)
	if j.counts == nil {
		j.counts = make(map[api.EventKind]uint64)
	}
	j.counts[e.Kind]++
}

func (j *journal) list() []api.Event {
	j.mu.Lock()
	events := slices.Concat(j.routine, j.others)
	j.mu.Unlock()
	slices.SortStableFunc(events, func(a, b api.Event) int { return a.Time.Compare(b.Time) })
	return events
}

// Events returns the latest events, the oldest first.
func (r *Registry) Events(context.Context) ([]api.Event, error) { return r.journal.list(), nil }

// EventCounts returns how many events there were of each kind, also of those
// that are forgotten by now.
func (r *Registry) EventCounts() map[api.EventKind]uint64 {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	return maps.Clone(r.journal.counts)
}

// remember adds an event to the journal.
func (r *Registry) remember(kind api.EventKind, rec *state.Record, message string) {
	r.journal.add(api.Event{
		Time: time.Now().UTC(), Kind: kind, Key: rec.Key, Pod: rec.Pod,
		Netns: rec.Netns.Cookie, Message: message,
	})
}

// warn reports what the call that made the attachment was wrong about.
func (r *Registry) warn(rec *state.Record) {
	if len(rec.Warnings) > 0 {
		r.report(slog.LevelWarn, api.EventWarning, rec, strings.Join(rec.Warnings, "; "))
	}
}

// Warn reports what is wrong with a pod that is not attached.
func (r *Registry) Warn(_ context.Context, report api.WarningReport) error {
	r.warn(&state.Record{Key: report.Key, Pod: report.Pod, Warnings: report.Warnings})
	return nil
}

// report logs an event about an attachment and remembers it.
func (r *Registry) report(
	level slog.Level, kind api.EventKind, rec *state.Record, message string,
) {
	r.remember(kind, rec, message)
	r.log(rec).Log(context.Background(), level, "event",
		slog.String("kind", string(kind)), slog.String("message", message))
}

func (r *Registry) log(rec *state.Record) *slog.Logger {
	log := r.options.Log.With(slog.String("containerID", rec.ContainerID),
		slog.String("ifname", rec.Ifname), slog.String("pod", rec.Pod.String()),
		slog.Uint64("netns", rec.Netns.Cookie))
	if rec.Traceparent != "" {
		log = log.With(slog.String("traceparent", rec.Traceparent))
	}
	return log
}

// about returns the events about an attachment, the oldest first.
func (j *journal) about(key api.Key) []api.Event {
	return slices.DeleteFunc(j.list(), func(e api.Event) bool { return e.Key != key })
}
