// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newStatus(run runner) *cobra.Command {
	watching := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how nsqueued is doing",
		Long: `Show how nsqueued is doing. Orphans are packets that an nsqueued before this
one had in hand when it died; they got the failure policy's verdict. Spooled are
calls of the plugin that are not carried out so far. Problems are attachments
whose packets are not inspected as they should be. Doubts are about attachments
of which nsqueued cannot tell whether their pods live; they are inspected.`,
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.client.Status(ctx)
	if err != nil {
		return err
	}
	if c.structured() {
		return c.writeOne(again, s)
	}
	return c.show(again, func() error { return c.writeStatus(&s) })
}

func (c *command) writeStatus(s *api.Status) error {
	n := &s.Counters
	hook := s.Hook.Kind
	if s.Hook.Detail != "" {
		hook += " (" + s.Hook.Detail + ")"
	}
	var f text.Fields
	line := f.Add
	line("Version", "%s", versions(s.Version))
	line("Process", "%d", s.PID)
	line("Started", "%s (%s ago)", s.Started.UTC().Format(time.RFC3339),
		text.Age(c.now().Sub(s.Started)))
	line("Supervisor", "%s", supervisor(s.Supervisor))
	if s.Supervisor.Capacity > 0 {
		line("Keeps", "%d of at most %d descriptors", s.Supervisor.Stored, s.Supervisor.Capacity)
	}
	line("State directory", "%s", s.StateDir)
	line("Failure policy", "%s", s.FailurePolicy)
	line("Hook", "%s", hook)
	if s.Hook.Reason != "" {
		line("Hook chosen", "%s", s.Hook.Reason)
	}
	for i := range s.Hook.Flaws {
		line("Hook flaw", "%s", s.Hook.Flaws[i].What)
	}
	line("Hook outlives it", "%s", yesNo(s.Hook.Persistent))
	line("Attachments", "%d", s.Attachments)
	line("Packets", "%d, %d bytes", n.Packets, n.Bytes)
	line("Verdicts", "%d accepted, %d dropped, %d queued", n.Accepted, n.Dropped, n.Queued)
	line("Trouble", "%s", errorCounts(n))
	line("Receive buffers", "%s for each of %s, at most %s in all", text.Size(s.Buffers.Possible),
		text.Plural(s.Buffers.Queues, "queue"), text.Size(s.Buffers.Total))
	line("Descriptors", "%d of %d, room for %s", s.Descriptors.Open, s.Descriptors.Limit,
		text.Plural(s.Descriptors.Room, "more pod"))
	line("Spooled", "%s", text.Plural(s.Spooled, "call"))
	line("Orphans", "%s", text.Plural(int(s.Orphans), "packet"))
	line("Problems", "%d", len(s.Problems))
	if s.Doubts != nil {
		line("Doubts", "%s", text.Plural(s.Doubts.Attachments, "attachment"))
	}
	if err := f.Write(c.out); err != nil {
		return err
	}
	if s.Doubts != nil {
		fmt.Fprintln(c.out, "  "+text.Wrap(doctor.Doubts(s.Doubts), "    "))
	}
	for i := range s.Problems {
		p := &s.Problems[i]
		fmt.Fprintln(c.out, "  "+text.Wrap(fmt.Sprintf("%s/%s of pod %s, %s: %s",
			shortID(p.ContainerID), p.Ifname, p.Pod, consequence(p), p.Message),
			"    "))
	}
	return nil
}

// versions tells that of nsqueued, and of this program where it is another.
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

// errorCounts prints what packets met with that should not be.
func errorCounts(n *api.Counters) string {
	return fmt.Sprintf("%d malformed, %d panics, %d overruns, %d flushed, %d errors",
		n.Malformed, n.Panics, n.Overruns, n.Flushed, n.Errors)
}

// consequence says what a problem means to the pod.
func consequence(p *api.Problem) string {
	what := "packets pass unseen"
	if p.FailurePolicy == api.Fail && !p.PastHook {
		what = "packets dropped"
	}
	if p.Inspector {
		return "some " + what
	}
	return what
}

// supervisor tells what restarts nsqueued, and how often it had to.
func supervisor(s api.Supervisor) string {
	switch s.Kind {
	case api.Supervise:
		return fmt.Sprintf("supervise (process %d, %s)", s.PID, text.Plural(s.Restarts, "restart"))
	case api.Systemd: // which alone knows how often
		return fmt.Sprintf("systemd (process %d)", s.PID)
	}
	return "none: nobody restarts nsqueued, and what waits in its queues ends with it"
}
