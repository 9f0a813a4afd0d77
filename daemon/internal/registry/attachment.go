// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"maps"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// attachment is one entry. Its record's State, Hook, Link, Settled and Labels, and elsewhere,
// are guarded by the registry's mu, all else is not changed after it was entered.
type attachment struct {
	record state.Record
	netns  *podNetns
	// restored: it was recorded before this daemon began.
	restored bool
	// elsewhere: another netns receives for the interface.
	elsewhere bool
	// done is closed when the state is no longer attaching or detaching.
	done chan struct{}
}

// pending is a record that is not restored so far. The record is not changed.
type pending struct {
	state.Record
	why string // guarded by the registry's mu; empty where it is not known
}

// problemLocked returns why packets of the attachment are not inspected as they
// should be, without saying whose they are; its message is empty for nothing. It
// needs the registry's mu.
func (a *attachment) problemLocked() api.Problem {
	if text := a.netns.problem.Load(); text != nil {
		return api.Problem{Message: *text}
	}
	if a.elsewhere {
		return api.Problem{Message: elsewhereText(&a.record), PastHook: true}
	}
	if text := a.netns.past.Load(); text != nil {
		return api.Problem{Message: *text, PastHook: true}
	}
	if p := a.netns.programTrouble(); p != nil {
		return *p
	}
	if text := a.netns.inspector.Load(); text != nil {
		return api.Problem{Message: *text, Inspector: true}
	}
	return api.Problem{}
}

func elsewhereText(rec *state.Record) string {
	return fmt.Sprintf("received packets pass uninspected: interface %s is an ipvlan in mode "+
		"l3s, for which the netns of its parent receives; use mode l2 or l3", rec.Ifname)
}

// label is the attachment as the inspector knows it.
func label(rec *state.Record) *inspect.Attachment {
	return &inspect.Attachment{
		ContainerID: rec.ContainerID, Ifname: rec.Ifname, Network: rec.Network,
		PodNamespace: rec.Pod.Namespace, PodName: rec.Pod.Name, PodUID: rec.Pod.UID,
		Annotations: maps.Clone(rec.Annotations), Labels: rec.Labels,
	}
}

func await(ctx context.Context, done <-chan struct{}, rec *state.Record) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.CodeTryAgainLater, "attachment %s is still %s", rec.Key, rec.State)
	}
}
