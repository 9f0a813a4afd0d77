// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// attachment is one entry. Its record's State, Hook and Link, and elsewhere,
// are guarded by the registry's mu, all else is not changed after it was entered.
type attachment struct {
	record  state.Record
	binding *binding
	// restored: it was recorded before this daemon began.
	restored bool
	// elsewhere: another netns receives for the interface.
	elsewhere bool
	// settled is closed when the state is no longer attaching or detaching.
	settled chan struct{}
}

// pending is a record that is not restored so far. The record is not changed.
type pending struct {
	state.Record
	why string // guarded by the registry's mu; empty where it is not known
}

// settle moves an attachment out of a passing state and wakes who waits. It
// needs no restoring then, whoever has attached it.
func (r *Registry) settle(a *attachment, s api.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pending[a.record.Key]; p != nil && p.Netns.Cookie == a.record.Netns.Cookie {
		delete(r.pending, a.record.Key)
	}
	a.record.State = s
	close(a.settled)
}

// leave takes an attachment out of the registry and wakes who waits.
func (r *Registry) leave(a *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attachments, a.record.Key)
	r.release(a.binding)
	close(a.settled)
	if r.most-len(r.attachments) < shrinkBy {
		return
	}
	r.most = len(r.attachments)
	select {
	case r.shrunk <- struct{}{}:
	default:
	}
}

// trouble returns why packets of the attachment are not inspected as they should
// be, without saying whose they are; its message is empty for nothing. The caller
// holds the registry's mu.
func (a *attachment) trouble() api.Problem {
	if text := a.binding.problem.Load(); text != nil {
		return api.Problem{Message: *text}
	}
	if a.elsewhere {
		return api.Problem{Message: elsewhereText(&a.record), PastHook: true}
	}
	if text := a.binding.past.Load(); text != nil {
		return api.Problem{Message: *text, PastHook: true}
	}
	if text := a.binding.inspector.Load(); text != nil {
		return api.Problem{Message: *text, Inspector: true}
	}
	return api.Problem{}
}

func elsewhereText(rec *state.Record) string {
	return fmt.Sprintf("received packets pass uninspected: interface %s is an ipvlan in mode "+
		"l3s, for which the netns of its parent receives; use mode l2 or l3", rec.Ifname)
}

// whose is the attachment as the inspector knows it.
func whose(rec *state.Record) *inspect.Attachment {
	return &inspect.Attachment{
		ContainerID: rec.ContainerID, Ifname: rec.Ifname, Network: rec.Network,
		PodNamespace: rec.Pod.Namespace, PodName: rec.Pod.Name, PodUID: rec.Pod.UID,
	}
}
