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
				"hook\" in docs/runtimes.md: take the pod out of inspection (an annotation, "+
				"excludeNamespaces), or give it another interface or runtime.")
			continue
		}
		if p.Inspector {
			e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message+"; packets that it had in "+
				"hand got the verdict of failure policy "+string(p.FailurePolicy),
				"Mend the inspector: the log of nsqueued (journalctl -u nsqueued) has a panic's "+
					"stack. If it only takes long, raise inspectBudget.")
			continue
		}
		consequence := "packets pass unseen"
		if p.FailurePolicy == api.Fail {
			consequence = "packets are dropped"
		}
		e.add(Wrong, checkProblems, where(p.Key, p.Pod), p.Message+"; "+consequence,
			"nsqueued tries again every 30 s. See nsqueuectl events; to let the pod go, "+
				"nsqueuectl detach "+p.Key.String()+".")
	}
	if d := e.status.Doubts; d != nil {
		e.add(Warning, checkProblems, where(d.Key, d.Pod), Doubts(d), "See \"What a daemon in a "+
			"container needs\" in docs/install.md. What is gone for certain, nsqueuectl detach "+
			"lets go of.")
		return
	}
	if len(problems) == 0 {
		e.ok(checkProblems, "", "nsqueued knows of none")
	}
}

// Doubts says in a sentence what the daemon cannot tell.
func Doubts(d *api.Doubts) string {
	return fmt.Sprintf("nsqueued cannot tell whether the pods of %s live, that of %s among them: "+
		"%s. They stay attached and inspected", text.Plural(d.Attachments, "attachment"),
		d.Key, d.Reason)
}

// rootRemedy is for what the observers' socket does not serve.
const rootRemedy = "Run nsqueuectl doctor as root, on the other socket."

// where names an attachment, and the pod that people know it by.
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
		known[p.Key] = known[p.Key] || !p.PastHook && !p.Inspector
	}
	checked, failed := 0, 0
	for i := range list {
		a := &list[i]
		err := e.check(ctx, a.Key)
		switch code := api.CodeOf(err); {
		case err == nil:
			checked++
		case errors.Is(err, api.ErrUnavailable):
			e.add(Unknown, checkAttachments, e.Socket, "not checked: "+err.Error(),
				"Run nsqueuectl doctor again when nsqueued serves.")
			return
		case code == api.CodeReadOnly:
			e.add(Unknown, checkAttachments, e.Socket, "not checked: "+err.Error(), rootRemedy)
			return
		case code == api.CodeNotAttached, a.State != api.Active:
			// It came or went meanwhile.
		case known[a.Key]:
			failed++ // said already
		default:
			failed++
			e.add(Wrong, checkAttachments, where(a.Key, a.Pod), err.Error(),
				"nsqueued repairs this within 30 s: run nsqueuectl doctor again, then see "+
					"nsqueuectl events.")
		}
	}
	if failed == 0 {
		e.ok(checkAttachments, "", "queues and hooks are in place, of %s",
			text.Plural(checked, "attachment"))
	}
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
