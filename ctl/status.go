// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func newStatus(run runner) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how nsqueued is doing",
		Long: `Show how nsqueued is doing. Orphans are packets that an nsqueued before this
one had in hand when it died; they got the failure policy's verdict. Problems
are attachments whose packets are not inspected as they should be.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), status)
		},
	}
}

func status(ctx context.Context, c *command) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.client.Status(ctx)
	if err != nil {
		return err
	}
	if c.structured() {
		return c.writeObject(s)
	}
	return c.writeStatus(s)
}

func (c *command) writeStatus(s api.Status) error {
	n := s.Counters
	hook := s.Hook.Kind
	if s.Hook.Detail != "" {
		hook += " (" + s.Hook.Detail + ")"
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("Version", "%s", s.Version)
	line("Process", "%d", s.PID)
	line("Started", "%s (%s ago)", s.Started.UTC().Format(time.RFC3339),
		age(c.now().Sub(s.Started)))
	line("Supervisor", "%s", supervisor(s.Supervisor))
	line("State directory", "%s", s.StateDir)
	line("Failure policy", "%s", s.FailurePolicy)
	line("Hook", "%s", hook)
	if s.Hook.Reason != "" {
		line("Hook chosen", "%s", s.Hook.Reason)
	}
	line("Attachments", "%d", s.Attachments)
	line("Packets", "%d, %d bytes", n.Packets, n.Bytes)
	line("Verdicts", "%d accepted, %d dropped, %d queued", n.Accepted, n.Dropped, n.Queued)
	line("Trouble", "%s", trouble(&n))
	line("Orphans", "%d", s.Orphans)
	line("Problems", "%d", len(s.Problems))
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range s.Problems {
		p := &s.Problems[i]
		fmt.Fprintf(c.out, "  %s/%s of pod %s, %s: %s\n", shortID(p.ContainerID), p.Ifname,
			p.Pod, consequence(p.FailurePolicy), p.Message)
	}
	return nil
}

// trouble prints what packets met with that should not be.
func trouble(n *api.Counters) string {
	return fmt.Sprintf("%d malformed, %d panics, %d overruns, %d flushed, %d errors",
		n.Malformed, n.Panics, n.Overruns, n.Flushed, n.Errors)
}

// consequence says what a problem means to the pod.
func consequence(p api.Policy) string {
	if p == api.Fail {
		return "packets dropped"
	}
	return "packets pass unseen"
}

// supervisor tells what restarts nsqueued, and how often it had to.
func supervisor(s api.Supervisor) string {
	switch s.Kind {
	case api.Supervise:
		return fmt.Sprintf("supervise (process %d, %s)", s.PID, plural(s.Restarts, "restart"))
	case api.Systemd:
		return fmt.Sprintf("systemd (process %d)", s.PID)
	}
	return "none: nobody restarts nsqueued, and what waits in its queues ends with it"
}
