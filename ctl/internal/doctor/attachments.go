// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// problems passes on what the daemon itself has found.
func (e *examination) problems() {
	problems := e.status.Problems
	for i := range problems {
		p := &problems[i]
		if p.PastHook {
			e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message, "See \"Traffic past the "+
				"hook\" in docs/runtimes.md: exclude the pod (by an annotation or "+
				"excludeNamespaces), or give it another interface or runtime.")
			continue
		}
		if p.Inspector {
			e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message+"; failure "+
				"policy "+string(p.FailurePolicy)+" decided the packets that it had not answered",
				"Fix the inspector: the log of nsqueued ("+e.logRemedy()+") has the stack "+
					"of a panic. If the inspector is only slow, raise inspectBudget.")
			continue
		}
		if p.Program {
			e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message, "nsqueued starts it "+
				"again by itself. See nsqueuectl describe, nsqueuectl events, and what the "+
				"program prints in the log of nsqueued ("+e.logRemedy()+").")
			continue
		}
		consequence := "packets pass uninspected"
		if p.FailurePolicy == api.Fail {
			consequence = "packets are dropped"
		}
		e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message+"; "+consequence,
			"nsqueued tries again every 30 s. See nsqueuectl events. To stop inspecting the "+
				"pod, run nsqueuectl detach "+p.Key.String()+".")
	}
	if d := e.status.Doubts; d != nil {
		e.add(Warning, checkProblems, where(d.Key, d.Pod), Doubts(d), "See \"What a daemon in a "+
			"container needs\" in docs/install.md. If a pod is certainly gone, run nsqueuectl "+
			"detach.")
		return
	}
	if len(problems) == 0 {
		e.ok(checkProblems, "", "nsqueued reports none")
	}
}

// Doubts says in a sentence what the daemon cannot tell.
func Doubts(d *api.Doubts) string {
	return fmt.Sprintf("nsqueued cannot tell whether the pods of %s are alive, such as that of "+
		"%s: %s. They stay attached and inspected", text.Plural(d.Attachments, "attachment"),
		d.Key, d.Reason)
}

// rootRemedy is for what the observers' socket does not serve.
const rootRemedy = "Run nsqueuectl doctor as root, with the main socket of nsqueued."

// where names the pod and its attachment.
func where(k api.Key, p api.Pod) string {
	if p.Name == "" {
		return k.String()
	}
	return p.String() + ", " + k.String()
}

// attachments has the kernel asked for each one, as CHECK does.
func (e *examination) attachments(ctx context.Context) {
	list, err := e.list(ctx)
	if err != nil {
		e.notChecked(checkAttachments, e.Socket, err)
		return
	}
	known := make(map[api.Key]bool) // not inspected, and said already
	for i := range e.status.Problems {
		p := &e.status.Problems[i]
		known[p.Key] = known[p.Key] || !p.PastHook && !p.Inspector && !p.Program
	}
	checked, failed := 0, 0
	for i := range list {
		a := &list[i]
		err := e.check(ctx, a.Key)
		switch code := api.CodeOf(err); {
		case err == nil:
			checked++
		case errors.Is(err, api.ErrUnavailable), code == api.CodeReadOnly:
			e.attachmentsUnknown(err)
			return
		case code == api.CodeNotAttached, a.State != api.Active:
			// It came or went in the meantime.
		case known[a.Key]:
			failed++ // said already
		default:
			failed++
			e.add(Wrong, checkAttachments, where(a.Key, a.Pod), err.Error(),
				"nsqueued repairs this within 30 s. Run nsqueuectl doctor again; if it stays, "+
					"see nsqueuectl events.")
		}
	}
	if failed == 0 {
		e.ok(checkAttachments, "", "queues and hooks of %s are in place",
			text.Plural(checked, "attachment"))
	}
}

// attachmentsUnknown says why the attachments could not be checked.
func (e *examination) attachmentsUnknown(err error) {
	remedy := "Run nsqueuectl doctor again when nsqueued answers."
	if api.CodeOf(err) == api.CodeReadOnly {
		remedy = rootRemedy
	}
	e.add(Unknown, checkAttachments, e.Socket, "not checked: "+err.Error(), remedy)
}

func (e *examination) list(ctx context.Context) ([]api.Attachment, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l, err := e.client.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	return l.Attachments, nil
}

func (e *examination) check(ctx context.Context, k api.Key) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return e.client.Check(ctx, k)
}
