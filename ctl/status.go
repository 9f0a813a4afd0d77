// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newStatus(run runner) *cobra.Command {
	watching := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of nsqueued",
		Long: `Show the state of nsqueued. Some of its lines mean:

  Stored descriptors  copies that the supervisor holds, so that queues stay open
                      while nsqueued restarts
  Role, Peer          what the supervisor is among those that hand over to each
                      other, and which others are connected
  Rules               which are in force; none mean that failure policies decide
                      about all packets until files are mended
  Undelivered         CNI calls in the spool that nsqueued must still carry out
  Orphans             packets that a killed nsqueued had read but not answered;
                      the failure policy decided them
  Problems            attachments whose packets are not inspected as intended
  Doubts              attachments that are inspected, though nsqueued cannot
                      tell whether their pods are alive`,
		Example: `  nsqueuectl status
  nsqueuectl status --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return c.lookOrWatch(ctx, watching, func(ctx context.Context) error {
					return status(ctx, c, watching)
				})
			})
		},
	}
	addWatch(cmd, &watching)
	return cmd
}

func status(ctx context.Context, c *command, again bool) error {
	s, err := call(ctx, c, c.client.Status)
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		return c.writeOne(again, s)
	}
	return c.show(again, func() error { return c.writeStatus(&s) })
}

func (c *command) writeStatus(s *api.Status) error {
	if err := c.statusFields(s).Write(c.out); err != nil {
		return err
	}
	if s.Doubts != nil {
		fmt.Fprintln(c.out, "  "+text.Wrap(doctor.Doubts(s.Doubts), "    "))
	}
	for i := range s.Problems {
		fmt.Fprintln(c.out, "  "+text.Wrap(view.Problem(&s.Problems[i]), "    "))
	}
	return nil
}

func (c *command) statusFields(s *api.Status) *text.Fields {
	var f text.Fields
	f.Add("Version", "%s", versions(s.Version))
	f.Add("Process", "%d", s.PID)
	f.Add("Started", "%s (%s ago)", s.Started.UTC().Format(time.RFC3339),
		text.Age(c.now().Sub(s.Started)))
	f.Add("Supervisor", "%s", supervisor(s.Supervisor))
	if s.Supervisor.Capacity > 0 {
		f.Add("Stored descriptors", "%d of at most %d", s.Supervisor.Stored, s.Supervisor.Capacity)
	}
	c.addHandover(&f, s.Supervisor.Handover)
	f.Add("State directory", "%s", s.StateDir)
	f.Add("Failure policy", "%s", s.FailurePolicy)
	addHook(&f, &s.Hook)
	if s.Rules != nil {
		c.addRules(&f, s.Rules)
	}
	if s.Retired {
		f.Add("Retired", "nsqueue leaves this node, and no pod is inspected")
	}
	if s.Labels != nil {
		c.addLabels(&f, s.Labels)
	}
	for i := range s.Inspectors {
		c.addInspector(&f, &s.Inspectors[i])
	}
	f.Add("Attachments", "%d", s.Attachments)
	addPackets(&f, &s.Counters)
	f.Add("Receive buffers", "%s for each of %s, at most %s in all", text.Size(s.Buffers.Possible),
		text.Plural(s.Buffers.Queues, "queue"), text.Size(s.Buffers.Total))
	f.Add("Descriptors", "%d of %d, room for %s", s.Descriptors.Open, s.Descriptors.Limit,
		text.Plural(s.Descriptors.Room, "more pod"))
	f.Add("Undelivered", "%s", text.Plural(s.Spooled, "CNI call"))
	f.Add("Orphans", "%s", text.Plural(int(s.Orphans), "packet"))
	f.Add("Problems", "%d", len(s.Problems))
	if s.Doubts != nil {
		f.Add("Doubts", "%s", text.Plural(s.Doubts.Attachments, "attachment"))
	}
	return &f
}

// addHandover adds what the supervisor is among others.
func (c *command) addHandover(f *text.Fields, h *api.Handover) {
	if h == nil {
		return
	}
	ending := ""
	if h.Ending {
		ending = ", awaits its successor"
	}
	name := ""
	if h.Instance != "" {
		name = " of " + h.Instance
	}
	f.Add("Role", "%s%s, for %s%s", h.Role, name, text.Age(c.now().Sub(h.Since)), ending)
	for i := range h.Peers {
		p := &h.Peers[i]
		f.Add("Peer", "%s, %s, connected for %s", p.Role, p.Version,
			text.Age(c.now().Sub(p.Since)))
	}
	if last := h.LastRefusal; last != nil {
		f.Add("Take-overs refused", "%d, the last one %s ago, of version %s: %s", h.Refusals,
			text.Age(c.now().Sub(last.At)), last.Version, last.Reason)
	}
}

func addHook(f *text.Fields, h *api.HookStatus) {
	kind := h.Kind
	if h.Detail != "" {
		kind += " (" + h.Detail + ")"
	}
	f.Add("Hook", "%s", kind)
	if h.Reason != "" {
		f.Add("Hook chosen", "%s", h.Reason)
	}
	for i := range h.Flaws {
		f.Add("Hook flaw", "%s", h.Flaws[i].What)
	}
	f.Add("Hook survives exit", "%s", yesNo(h.Persistent))
}

// addRules adds what nsqueued inspects by.
func (c *command) addRules(f *text.Fields, r *api.RulesState) {
	if r.Loaded == nil {
		f.Add("Rules", "none in force, from %s", r.From())
	} else {
		f.Add("Rules", "%s from %s, read %s ago", text.Plural(r.Sets, "set"), r.From(),
			text.Age(c.now().Sub(*r.Loaded)))
	}
	if r.Problem != "" {
		f.Add("Rules problem", "%s", r.Problem)
	}
}

// addLabels adds how nsqueued comes to know pods' labels.
func (c *command) addLabels(f *text.Fields, l *api.LabelsState) {
	switch {
	case l.Source == api.LabelsNone:
		f.Add("Labels", "no source: rules that ask for them are refused")
	case l.Connected:
		f.Add("Labels", "by NRI of %s %s, connected %s ago; %d pods told of, %d late, unknown "+
			"of %s", l.Runtime, l.Version, text.Age(c.now().Sub(*l.Since)), l.Pods, l.Late,
			text.Plural(l.Unknown, "interface"))
	default:
		f.Add("Labels", "by NRI, not connected: %s; unknown of %s", l.Problem,
			text.Plural(l.Unknown, "interface"))
	}
}

// addInspector adds an inspector outside nsqueued.
func (c *command) addInspector(f *text.Fields, s *api.InspectorState) {
	n := &s.Counters
	state := "not connected"
	switch {
	case s.Problem != "":
		state = s.Problem
	case s.Connected:
		state = fmt.Sprintf("%s (%s), for %s", text.Process(s.PID), cmp.Or(s.Client, "unnamed"),
			text.Age(c.now().Sub(*s.Since)))
		if s.Stalled {
			state += ", does not answer"
		}
	}
	if s.Transport == "descriptor" {
		f.Add("Inspector", "%s: %s; it reads queues by itself", s.Name, state)
		return
	}
	f.Add("Inspector", "%s: %s; %s answered, %d lost, %d late, %d while it was away", s.Name, state,
		text.Plural(int(n.Answered), "packet"), n.Lost, n.Late, n.Away+n.Overflow)
}

// addPackets adds what the daemon did with packets, of a pod or of all of them.
func addPackets(f *text.Fields, n *api.Counters) {
	f.Add("Packets", "%d, %d bytes", n.Packets, n.Bytes)
	f.Add("Verdicts", "%d accepted, %d dropped, %d rejected (%d untold), %d queued", n.Accepted,
		n.Dropped, n.Rejected, n.Untold, n.Queued)
	if n.Deferred > 0 || n.Undeferred > 0 {
		f.Add("Deferred", "%d, %d expired, %d beyond the limit", n.Deferred, n.Expired,
			n.Undeferred)
	}
	f.Add("Errors", "%d malformed, %d panics, %d overruns, %d flushed, %d other",
		n.Malformed, n.Panics, n.Overruns, n.Flushed, n.Errors)
}

// versions has that of nsqueued, and that of this program if it is another.
func versions(daemon string) string {
	if own := api.Version(); own != daemon {
		return daemon + " (this is nsqueuectl " + own + ")"
	}
	return daemon
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// supervisor tells what restarts nsqueued, and how often it did so.
func supervisor(s api.Supervisor) string {
	switch s.Kind {
	case api.Supervise:
		return fmt.Sprintf("supervise (process %d, %s)", s.PID, text.Plural(s.Restarts, "restart"))
	case api.Systemd: // which alone knows how often
		return fmt.Sprintf("systemd (process %d)", s.PID)
	}
	return "none: nothing restarts nsqueued, and packets in its queues are lost when it exits"
}
