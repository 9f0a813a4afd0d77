// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

const (
	wholePackets = 1 << 16
	// headersOnly has room for those of IPv6 and TCP, with options, and for those of a
	// packet that an error of ICMP is about.
	headersOnly = 256
	// digestVersion is another one when the same rules come to mean something else.
	digestVersion = "1:"
)

// NeedsOf tells what a pod's rules read of its packets, and the rules that come next.
func (i *Inspector) NeedsOf(a *inspect.Attachment) inspect.Needs {
	n := i.Needs()
	n.CopyRange = headersOnly
	now, soon := i.facts(a)
	for _, l := range []*loaded{i.loaded.Load(), i.coming.Load()} {
		for _, pod := range []*Pod{now, soon} {
			if l == nil || pod == nil {
				continue
			}
			list := l.of(pod)
			if readsBytes(list) {
				n.CopyRange = wholePackets
			}
			n.SocketUID = n.SocketUID || readsUser(list)
		}
	}
	return n
}

// readsBytes reports whether rules need what packets carry: some learn names from it, and
// other inspectors may read all of it.
func readsBytes(list *List) bool {
	return list != nil &&
		(list.Reads()&(compile.App|compile.Message) != 0 || list.ReadsNames() ||
			len(list.Inspectors()) > 0)
}

// readsUser reports whether rules ask whose socket a packet comes from.
func readsUser(list *List) bool { return list != nil && list.ReadsUser() }

// DigestOf identifies the rules of a pod.
func (i *Inspector) DigestOf(a *inspect.Attachment) string {
	now, _ := i.facts(a)
	return digestOf(i.loaded.Load().of(now))
}

func digestOf(list *List) string {
	if list == nil {
		return digestVersion
	}
	return digestVersion + list.Hash()
}

// AttachmentChanges delivers what Replace changes. Once it was called, Replace waits until
// somebody has carried out its change.
func (i *Inspector) AttachmentChanges() <-chan inspect.Change {
	i.followed.Store(true)
	return i.changes
}

// Replace gives all pods other rules. Only those for which other ones count then are
// looked at again: it returns their attachments. It returns an error if the context ends
// before.
func (i *Inspector) Replace(ctx context.Context, r *Rules) ([]*inspect.Attachment, error) {
	release, err := i.takeTurn(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	l := load(r, i.loaded.Load())
	if !i.followed.Load() {
		return i.apply(l), nil
	}
	i.coming.Store(l)
	named := i.changing(l)
	var changed []*inspect.Attachment
	if err := i.carryOut(ctx, named, func() { changed = i.apply(l) }); err != nil {
		i.coming.CompareAndSwap(l, nil) // else it was applied
		return nil, err
	}
	late := slices.DeleteFunc(slices.Clone(changed), func(a *inspect.Attachment) bool {
		return slices.Contains(named, a)
	})
	if len(late) > 0 {
		err = i.change(ctx, inspect.Change{Attachments: late})
	}
	return changed, err
}

// takeTurn waits until no other change is under way.
func (i *Inspector) takeTurn(ctx context.Context) (release func(), err error) {
	select {
	case i.replacing <- struct{}{}:
		return func() { <-i.replacing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// carryOut has a change carried out, and returns once it is applied.
func (i *Inspector) carryOut(
	ctx context.Context, named []*inspect.Attachment, apply func(),
) error {
	applied := make(chan struct{})
	err := i.change(ctx, inspect.Change{Attachments: named, Apply: func() {
		apply()
		close(applied)
	}})
	if err != nil {
		return err
	}
	select {
	case <-applied:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *Inspector) change(ctx context.Context, c inspect.Change) error {
	select {
	case i.changes <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changing returns the attachments of pods that other rules will concern.
func (i *Inspector) changing(l *loaded) []*inspect.Attachment {
	list := []*inspect.Attachment{} // nil would mean all
	for _, p := range i.all(nil) {
		if p.differs(l) {
			list = append(list, p.attachment)
		}
	}
	return list
}

// apply puts rules in force. Pods that come meanwhile have them already.
func (i *Inspector) apply(l *loaded) (changed []*inspect.Attachment) {
	i.mu.Lock()
	i.loaded.Store(l)
	i.coming.Store(nil)
	i.mu.Unlock()
	i.counts.replaced.Add(1)
	for _, p := range i.all(nil) {
		if p.replace(l) {
			changed = append(changed, p.attachment)
		}
	}
	return changed
}
