// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// List describes all attachments, ordered by key.
func (r *Registry) List(context.Context) ([]api.Attachment, error) {
	all := r.sorted()
	list := make([]api.Attachment, 0, len(all))
	for _, a := range all {
		list = append(list, r.describe(a))
	}
	return list, nil
}

// sorted returns the attachments, ordered by key.
func (r *Registry) sorted() []*attachment {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.attachments))
	r.mu.Unlock()
	slices.SortFunc(all, func(x, y *attachment) int {
		return compareKeys(x.record.Key, y.record.Key)
	})
	return all
}

// named returns the attachment of a key, nil where there is none.
func (r *Registry) named(key api.Key) *attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attachments[key]
}

// Count returns how many attachments there are.
func (r *Registry) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.attachments)
}

// Orphans returns how many packets daemons before this one had in hand when
// they died.
func (r *Registry) Orphans() uint64 { return r.orphans.Load() }

// Problems returns the attachments whose packets are not inspected as they
// should be, as far as [Registry.Prove] has found out, ordered by key.
func (r *Registry) Problems() []api.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	problems := []api.Problem{}
	add := func(rec *state.Record, p api.Problem) {
		p.Key, p.Pod, p.FailurePolicy = rec.Key, rec.Pod, rec.FailurePolicy
		problems = append(problems, p)
	}
	for _, a := range r.attachments {
		if p := a.trouble(); p.Message != "" {
			add(&a.record, p)
		}
	}
	for _, p := range r.pending {
		text := "not restored after a restart"
		if p.why != "" {
			text += ": " + p.why
		}
		add(&p.Record, api.Problem{Message: text})
	}
	slices.SortFunc(problems, func(x, y api.Problem) int { return compareKeys(x.Key, y.Key) })
	return problems
}

func compareKeys(x, y api.Key) int {
	return cmp.Or(cmp.Compare(x.ContainerID, y.ContainerID), cmp.Compare(x.Ifname, y.Ifname))
}

// Watch reports packets as they are inspected. See [api.Backend].
func (r *Registry) Watch(
	ctx context.Context, req api.WatchRequest, started func() error,
	emit func([]api.PacketEvent) error,
) error {
	return r.hub.Watch(ctx, req, started, emit)
}

// describe returns the attachment as the API shows it.
func (r *Registry) describe(a *attachment) api.Attachment {
	r.mu.Lock()
	rec := a.record
	r.mu.Unlock()
	return api.Attachment{
		Key: rec.Key, Network: rec.Network, Origin: rec.Origin, Pod: rec.Pod,
		Netns: rec.Netns, Hook: rec.Hook, State: rec.State,
		FailurePolicy: rec.FailurePolicy, Created: rec.Created,
		Queues:   r.queues(rec.Queue),
		Counters: a.binding.counters(),
		Warnings: slices.Clone(rec.Warnings),
	}
}

func (r *Registry) queues(first uint16) []api.Queue {
	queues := make([]api.Queue, max(r.options.Queues, 1))
	for i := range queues {
		queues[i] = api.Queue{Number: first + uint16(i), Length: r.options.Queue.Length}
	}
	return queues
}

// records returns a copy of all records.
func (r *Registry) records() []state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]state.Record, 0, len(r.attachments))
	for _, a := range r.attachments {
		records = append(records, a.record)
	}
	return records
}

// Check verifies that packets of the attachment are queued and read.
func (r *Registry) Check(_ context.Context, key api.Key) error {
	a := r.named(key)
	if a == nil {
		return api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
	}
	a.binding.mu.Lock()
	defer a.binding.mu.Unlock()
	if err := a.binding.check(); err != nil {
		return api.Errorf(api.CodeNotInspected, "attachment %s: %s", key, err)
	}
	return nil
}

// Buffers tells how large the queues' receive buffers are.
func (r *Registry) Buffers() (api.Buffers, error) {
	s, err := r.datapaths.Buffers()
	return api.Buffers(s), err
}
