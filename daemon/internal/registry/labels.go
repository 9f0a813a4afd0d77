// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"log/slog"
	"maps"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// SetLabels records the labels of a pod with all its attachments, by the container ID of
// its sandbox, so that the next daemon has them from the beginning. They are not changed
// then.
func (r *Registry) SetLabels(containerID string, labels map[string]string) {
	for _, a := range r.ofContainer(containerID) {
		n := a.netns.lock()
		if rec := r.label(n, a, labels); rec != nil {
			r.saveLabels(rec)
		}
		n.unlock()
	}
}

func (r *Registry) ofContainer(id string) []*attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*attachment
	for key, a := range r.attachments {
		if key.ContainerID == id {
			list = append(list, a)
		}
	}
	return list
}

// label gives the attachment labels, and returns its record if that is to be saved for
// them. What is about to be attached is saved with them later, and what is being detached
// is not any more.
func (r *Registry) label(
	n lockedNetns, a *attachment, labels map[string]string,
) *state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.record.Labels != nil && maps.Equal(a.record.Labels, labels) {
		return nil
	}
	a.record.Labels = labels
	rec := a.record
	if _, joined := n.members[rec.Key]; !joined || rec.State == api.Detaching {
		return nil
	}
	rec.State = api.Active // it is, or will be once the netns is unlocked
	return &rec
}

func (r *Registry) saveLabels(rec *state.Record) {
	if err := r.options.Store.Save(*rec); err != nil {
		r.events.log(rec).Warn("cannot save a state file; after a restart the pod is judged as "+
			"one without labels until the runtime tells them again", slog.Any("error", err))
	}
}
