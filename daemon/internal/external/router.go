// SPDX-License-Identifier: Apache-2.0

package external

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Router is the daemon's inspector where there are inspectors outside: rules, if there are
// any, decide first, and what they accept goes on to the inspector of the pod.
type Router struct {
	rules   *rules.Inspector // nil: everything is accepted
	entries []Entry
	changes chan inspect.Change
	spare   sync.Pool

	mu   sync.RWMutex                   // guards what follows
	pods map[*inspect.Attachment]*Entry // what reads them whole
}

var _ interface {
	inspect.BatchInspector
	inspect.Declarer
	inspect.AttachmentObserver
	inspect.AttachmentDeclarer
	inspect.AttachmentDigester
	inspect.AttachmentChanger
} = (*Router)(nil)

// NewRouter returns a Router over rules, nil for none, and inspectors in their order: the
// first one that selects a pod reads it.
func NewRouter(r *rules.Inspector, entries []Entry) *Router {
	return &Router{
		rules: r, entries: entries, changes: make(chan inspect.Change),
		spare: sync.Pool{New: func() any { return new(gathered) }},
		pods:  make(map[*inspect.Attachment]*Entry),
	}
}

// Check says why rules cannot leave flows to an inspector of this name.
func Check(entries []Entry, name string) error {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no inspector %q in nsqueued's configuration", name)
	}
	return entries[i].Unfit
}

func (r *Router) entry(name string) *Entry {
	for i := range r.entries {
		if r.entries[i].Name == name {
			return &r.entries[i]
		}
	}
	return nil
}

// Needs are those of all inspectors together.
func (r *Router) Needs() inspect.Needs { return inspect.Needs{Settles: true, Defers: true} }

// Attached chooses the inspector of a pod, and tells those that get its packets.
func (r *Router) Attached(a *inspect.Attachment) {
	whole := r.choose(a)
	var told []*Entry
	if whole != nil {
		told = append(told, whole)
	}
	if r.rules != nil {
		r.rules.Attached(a)
		for _, name := range r.named(a) {
			if e := r.entry(name); e != nil && e != whole {
				told = append(told, e)
			}
		}
	}
	r.mu.Lock()
	r.pods[a] = whole
	r.mu.Unlock()
	for _, e := range told {
		e.Inspector.Attached(a, e == whole)
	}
}

func (r *Router) choose(a *inspect.Attachment) *Entry {
	facts := rules.PodOf(a)
	for i := range r.entries {
		if e := &r.entries[i]; e.Selects != nil && e.Selects(facts) {
			return e
		}
	}
	return nil
}

// named returns the inspectors to which rules leave flows of an attachment.
func (r *Router) named(a *inspect.Attachment) []string {
	if r.rules == nil {
		return nil
	}
	list, ok := r.rules.Of(a)
	if !ok || list == nil {
		return nil
	}
	return list.Inspectors()
}

// Names returns the inspectors that get packets of an attachment by now, the one that
// reads it whole first.
func (r *Router) Names(a *inspect.Attachment) []string {
	named := r.named(a)
	if e := r.whole(a); e != nil {
		return append([]string{e.Name}, named...)
	}
	return named
}

// Detached forgets a pod.
func (r *Router) Detached(a *inspect.Attachment) {
	if r.rules != nil {
		r.rules.Detached(a)
	}
	r.mu.Lock()
	delete(r.pods, a)
	r.mu.Unlock()
	for i := range r.entries {
		r.entries[i].Inspector.Detached(a)
	}
}

// whole returns the inspector that reads a pod whole, nil for none.
func (r *Router) whole(a *inspect.Attachment) *Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pods[a]
}

// NeedsOf says what is needed of a pod's packets by whatever reads them.
func (r *Router) NeedsOf(a *inspect.Attachment) inspect.Needs {
	needs := r.Needs()
	if r.rules != nil {
		needs = r.rules.NeedsOf(a)
	}
	e := r.whole(a)
	if e == nil {
		return needs
	}
	of := e.Inspector.Needs(a)
	switch {
	case r.rules == nil || of.CopyRange == 0:
		needs.CopyRange = of.CopyRange
	case needs.CopyRange > 0:
		needs.CopyRange = max(needs.CopyRange, of.CopyRange)
	}
	needs.SocketUID = needs.SocketUID || of.SocketUID
	return needs
}

// acceptAll is the digest of what decides without rules. It settles nothing.
const acceptAll = "accept"

// DigestOf identifies what decides about a pod. Nobody knows what an inspector outside
// decides by.
func (r *Router) DigestOf(a *inspect.Attachment) string {
	switch {
	case r.whole(a) != nil || len(r.named(a)) > 0:
		return ""
	case r.rules != nil:
		return r.rules.DigestOf(a)
	}
	return acceptAll
}

// AttachmentChanges delivers the changes of rules and of inspectors while Run goes on.
func (r *Router) AttachmentChanges() <-chan inspect.Change {
	if r.rules != nil {
		r.rules.AttachmentChanges() // from now on rules wait for who follows them
	}
	return r.changes
}

// Run passes on the changes of rules until ctx ends.
func (r *Router) Run(ctx context.Context) {
	if r.rules == nil {
		return
	}
	changes := r.rules.AttachmentChanges()
	for {
		select {
		case c := <-changes:
			r.Change(ctx, c)
		case <-ctx.Done():
			return
		}
	}
}

// Change has the daemon look anew at what attachments need, and at their settled flows. It
// returns when the daemon begins to.
func (r *Router) Change(ctx context.Context, c inspect.Change) {
	select {
	case r.changes <- c:
	case <-ctx.Done():
	}
}

// Reader says what reads an attachment, and false if none outside does.
func (r *Router) Reader(container, ifname string) (api.Reader, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for a, whole := range r.pods {
		if a.ContainerID == container && a.Ifname == ifname && whole != nil {
			return whole.Inspector.Reader(a), true
		}
	}
	return api.Reader{}, false
}
