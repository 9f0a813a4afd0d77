// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/marks"
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

// Count returns how many attachments there are.
func (r *Registry) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.attachments)
}

// Problems returns the attachments whose packets are not inspected as they
// should be, as far as [Registry.Verify] has found out, ordered by key.
func (r *Registry) Problems() []api.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	problems := []api.Problem{}
	add := func(rec *state.Record, p api.Problem) {
		p.Key, p.Pod, p.FailurePolicy = rec.Key, rec.Pod, rec.FailurePolicy
		problems = append(problems, p)
	}
	for _, a := range r.attachments {
		if p := a.problemLocked(); p.Message != "" {
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
		Counters: a.netns.counters(),
		Warnings: slices.Clone(rec.Warnings), Annotations: maps.Clone(rec.Annotations),
		Labels:   maps.Clone(rec.Labels),
		Programs: a.netns.programStates(),
	}
}

func (r *Registry) queues(first uint16) []api.Queue {
	queues := make([]api.Queue, max(r.options.Queues, 1))
	for i := range queues {
		queues[i] = api.Queue{Number: first + uint16(i), Length: r.options.Queue.Length}
	}
	return queues
}

// Check verifies that packets of the attachment are queued and read.
func (r *Registry) Check(_ context.Context, key api.Key) error {
	a := r.named(key)
	if a == nil {
		return api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
	}
	n := a.netns.lock()
	defer n.unlock()
	if err := n.findFault(); err != nil {
		return api.Errorf(api.CodeNotInspected, "attachment %s: %s", key, err)
	}
	return nil
}

// Buffers tells how large the queues' receive buffers are.
func (r *Registry) Buffers() (api.Buffers, error) {
	s, err := r.datapaths.Buffers()
	return api.Buffers(s), err
}

// Describe returns all that is known of an attachment, with what the kernel says
// of its queues now.
func (r *Registry) Describe(_ context.Context, key api.Key) (api.Description, error) {
	a := r.named(key)
	if a == nil {
		return api.Description{}, api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
	}
	d := api.Description{Attachment: r.describe(a), Events: r.events.about(key)}
	r.mu.Lock()
	d.Problem = a.problemLocked().Message
	r.mu.Unlock()
	a.netns.addUsage(d.Programs)
	var err error
	if d.QueueStates, err = queueStates(a.netns); err != nil && d.Problem == "" {
		d.Problem = "cannot read the queues: " + err.Error()
	}
	if d.HookCounters, err = hookCounters(a.netns); err != nil && d.Problem == "" {
		d.Problem = "cannot read the hook's counters: " + err.Error()
	}
	return d, nil
}

func hookCounters(of *podNetns) (api.HookCounters, error) {
	n := of.lock()
	defer n.unlock()
	if n.datapath == nil {
		return api.HookCounters{}, nil
	}
	c, err := n.datapath.HookCounters()
	return api.HookCounters(c), err
}

// queueStates asks the kernel for the queues.
func queueStates(of *podNetns) ([]api.QueueState, error) {
	n := of.lock()
	defer n.unlock()
	if n.datapath == nil {
		return nil, nil
	}
	found, err := n.datapath.QueueStates()
	var states []api.QueueState
	for _, s := range found {
		states = append(states, api.QueueState{
			Queue: api.Queue{Number: s.Number, Length: s.Length},
			Bound: s.Bound, Waiting: s.Waiting,
			QueueDropped: s.QueueDropped, UserDropped: s.SocketDropped,
		})
	}
	return states, err
}

// Marks looks into each netns once for other users of the bits of the packet
// mark that the inspector may set. What a pod does with them hurts only that
// pod: marks do not leave their netns.
func (r *Registry) Marks(ctx context.Context) (api.MarkReport, error) {
	report := api.MarkReport{MarkMask: r.options.MarkMask}
	if report.MarkMask == 0 {
		return report, nil
	}
	seen := make(map[*podNetns]bool)
	for _, a := range r.sorted() {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if !seen[a.netns] {
			seen[a.netns] = true
			a.addMarks(&report)
		}
	}
	return report, nil
}

// addMarks looks into the attachment's netns, if there still is one.
func (a *attachment) addMarks(report *api.MarkReport) {
	key := a.record.Key
	ns, err := a.netns.open()
	if err == nil && ns == nil {
		return
	}
	report.Netns++
	var uses []marks.Use
	if err == nil {
		defer ns.Close()
		uses, err = marks.Find(ns, report.MarkMask)
	}
	if err != nil {
		report.Unreadable = append(report.Unreadable, fmt.Sprintf("%s: %s", key, err))
	}
	for _, u := range uses {
		report.Uses = append(report.Uses, api.MarkUse{
			Key: key, Pod: a.record.Pod, Where: u.Where, Sets: u.Sets, Mask: u.Mask,
		})
	}
}

// Events returns the latest events, the oldest first.
func (r *Registry) Events(context.Context) ([]api.Event, error) { return r.events.list(), nil }

// EventCounts returns how many events there were of each kind, also of those
// that are forgotten by now.
func (r *Registry) EventCounts() map[api.EventKind]uint64 { return r.events.counted() }

// Warn reports what is wrong with a pod that is not attached.
func (r *Registry) Warn(_ context.Context, report api.WarningReport) error {
	r.events.warn(&state.Record{Key: report.Key, Pod: report.Pod, Warnings: report.Warnings})
	return nil
}

// Descriptors tells how many files are open, and for how many more pods there is
// room.
func (r *Registry) Descriptors() (api.Descriptors, error) {
	return descriptors(r.queueFDs())
}

// Doubts are about the attachments of which it cannot be told whether their pods
// live; nil for none.
func (r *Registry) Doubts() *api.Doubts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubts.Attachments == 0 {
		return nil
	}
	found := r.doubts.Doubts
	return &found
}
