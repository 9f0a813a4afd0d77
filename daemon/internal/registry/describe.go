// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// Describe returns all that is known of an attachment, with what the kernel says
// of its queues now.
func (r *Registry) Describe(_ context.Context, key api.Key) (api.Description, error) {
	a := r.named(key)
	if a == nil {
		return api.Description{}, api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
	}
	d := api.Description{Attachment: r.describe(a), Events: r.journal.about(key)}
	r.mu.Lock()
	d.Problem = a.trouble().Message
	r.mu.Unlock()
	var err error
	if d.QueueStates, err = a.binding.queueStates(); err != nil && d.Problem == "" {
		d.Problem = "queues not read: " + err.Error()
	}
	if d.HookCounters, err = a.binding.hookCounters(); err != nil && d.Problem == "" {
		d.Problem = "hook's counters not read: " + err.Error()
	}
	return d, nil
}

func (b *binding) hookCounters() (api.HookCounters, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return api.HookCounters{}, nil
	}
	c, err := b.parts.HookCounters()
	return api.HookCounters(c), err
}

// queueStates asks the kernel for the queues.
func (b *binding) queueStates() ([]api.QueueState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return nil, nil
	}
	found, err := b.parts.QueueStates()
	var states []api.QueueState
	for _, s := range found {
		states = append(states, api.QueueState{
			Queue: api.Queue{Number: s.Number, Length: s.Length},
			Bound: s.Bound, Waiting: s.Waiting,
			QueueDropped: s.QueueDropped, UserDropped: s.UserDropped,
		})
	}
	return states, err
}
