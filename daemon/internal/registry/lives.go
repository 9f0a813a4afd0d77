// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"log/slog"
	"runtime/debug"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// lives tells the inspector of attachments, if it wants to know.
type lives struct {
	inspector inspect.AttachmentObserver // nil where it does not
	log       *slog.Logger
}

func newLives(o *Options) *lives {
	observer, _ := o.Inspector.(inspect.AttachmentObserver)
	return &lives{inspector: observer, log: o.Log}
}

func (l *lives) attached(a *inspect.Attachment) {
	if l.inspector != nil {
		defer l.logPanic(a, "Attached")
		l.inspector.Attached(a)
	}
}

func (l *lives) detached(a *inspect.Attachment) {
	if l.inspector != nil {
		defer l.logPanic(a, "Detached")
		l.inspector.Detached(a)
	}
}

// logPanic logs what the inspector panicked with.
func (l *lives) logPanic(a *inspect.Attachment, method string) {
	if said := recover(); said != nil {
		l.log.Error("the inspector panicked when it was told of an attachment",
			slog.String("containerID", a.ContainerID), slog.String("ifname", a.Ifname),
			slog.String("method", method), slog.String("panic", nfqueue.PanicText(said)),
			slog.String("stack", string(debug.Stack())))
	}
}
