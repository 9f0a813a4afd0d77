// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"log/slog"
	"runtime/debug"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// told calls the methods that the inspector has beside Inspect. What they panic with is
// logged.
type told struct {
	observer inspect.AttachmentObserver // nil where it is none, as are these
	declarer inspect.AttachmentDeclarer
	digester inspect.AttachmentDigester
	log      *slog.Logger
}

func newTold(o *Options) *told {
	t := &told{log: o.Log}
	t.observer, _ = o.Inspector.(inspect.AttachmentObserver)
	t.declarer, _ = o.Inspector.(inspect.AttachmentDeclarer)
	t.digester, _ = o.Inspector.(inspect.AttachmentDigester)
	return t
}

func (t *told) attached(a *inspect.Attachment) {
	if t.observer != nil {
		defer t.logPanic(a, "Attached")
		t.observer.Attached(a)
	}
}

func (t *told) detached(a *inspect.Attachment) {
	if t.observer != nil {
		defer t.logPanic(a, "Detached")
		t.observer.Detached(a)
	}
}

// needs returns what asks for needs, nil where all attachments have the same.
func (t *told) needs() func(*inspect.Attachment) datapath.Needs {
	if t.declarer == nil {
		return nil
	}
	return t.needsOf
}

func (t *told) needsOf(a *inspect.Attachment) (needs datapath.Needs) {
	defer t.logPanic(a, "NeedsOf")
	n := t.declarer.NeedsOf(a)
	return datapath.Needs{
		CopyRange: min(n.CopyRange, nfqueue.MaxCopyRange), Settles: n.Settles,
		SocketUID: n.SocketUID,
	}
}

// digestOf returns the inspector's digest, empty where it has none.
func (t *told) digestOf(a *inspect.Attachment) (digest string) {
	if t.digester == nil {
		return ""
	}
	defer t.logPanic(a, "DigestOf")
	return t.digester.DigestOf(a)
}

// apply puts new rules in force.
func (t *told) apply(c *inspect.Change) {
	if c.Apply != nil {
		defer t.logPanic(nil, "Apply")
		c.Apply()
	}
}

// logPanic logs what the inspector panicked with.
func (t *told) logPanic(a *inspect.Attachment, method string) {
	if said := recover(); said != nil {
		a = cmp.Or(a, &inspect.Attachment{})
		t.log.Error("the inspector panicked when it was asked or told of an attachment",
			slog.String("containerID", a.ContainerID), slog.String("ifname", a.Ifname),
			slog.String("method", method), slog.String("panic", nfqueue.PanicText(said)),
			slog.String("stack", string(debug.Stack())))
	}
}
