// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newEvents(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened to attachments on all nodes",
		Long: `Show the latest events of all nodes, the oldest first: what happened to
attachments, and what rules refused. nsqueuectl events --help says which there
are.

With --follow it continues until Ctrl-C, in the order of the events' own times,
and names the nodes that are lost meanwhile. -o json then prints one JSON object
per line, with its node.`,
		Example: `  kubectl nsqueue events --pod default/busybox1
  kubectl nsqueue events --follow --verdict reject`,
		Args: cobra.NoArgs,
	}
	remote, output, window := newRemoteFlags(cmd), addOutput(cmd), addWindow(cmd)
	remote.pods()
	remote.text("rule", "what `SET/RULE`, or SET, refused only")
	remote.text("verdict", "what was refused with `VERDICT` only: reject or drop")
	following := cmd.Flags().BoolP("follow", "f", false, "continue with new events")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkWindow(*window); err != nil {
			return err
		}
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			if *following {
				return c.followEvents(ctx, remote.args("events", "--follow", "-o", "json"), *window)
			}
			return c.events(ctx, remote.args("events", "-o", "json"))
		})
	}
	return cmd
}

// nodeEvent is an event of a node, with what it was read from.
type nodeEvent struct {
	node  string
	event api.Event
	raw   json.RawMessage
}

func (c *command) events(ctx context.Context, args []string) error {
	list, bad, err := c.ask(ctx, args...)
	if err != nil {
		return err
	}
	var all []nodeEvent
	for _, a := range list {
		events, err := eventsOf(&a)
		if err != nil {
			bad.add(a.Node, err)
			continue
		}
		all = append(all, events...)
	}
	slices.SortStableFunc(all, func(a, b nodeEvent) int {
		return a.event.Time.Compare(b.event.Time)
	})
	if err := c.writeEvents(all, bad); err != nil {
		return err
	}
	return bad.err()
}

func eventsOf(a *fleet.Answer) ([]nodeEvent, error) {
	items, err := answers.Items(a.Node, a.Out, "events")
	if err != nil {
		return nil, err
	}
	var all []nodeEvent
	for _, item := range items {
		e, err := answers.Read[api.Event](item)
		if err != nil {
			return nil, err
		}
		all = append(all, nodeEvent{a.Node, e, item})
	}
	return all, nil
}

func (c *command) writeEvents(all []nodeEvent, bad *unanswered) error {
	if c.printer().Structured() {
		items := make([]json.RawMessage, len(all))
		for i := range all {
			items[i] = all[i].raw
		}
		return c.writeMerged("events", items, bad)
	}
	if len(all) == 0 {
		if len(bad.Nodes) < bad.of {
			c.tell("No events.")
		}
		return nil
	}
	rows := make([]*text.Table, len(all))
	for i, e := range all {
		rows[i] = view.Events([]api.Event{e.event}, c.id)
		rows[i].Lead("NODE", e.node)
	}
	return c.printer().Table(text.Join(rows...))
}

func (c *command) followEvents(ctx context.Context, args []string, window time.Duration) error {
	lines := newLinePrinter(c)
	last, known := map[string]time.Time{}, map[string]time.Time{}
	s := stream[raw[api.Event]]{
		args: args, window: window, sink: rawLines(answers.Read[api.Event]),
		time:  func(v raw[api.Event]) time.Time { return v.value.Time },
		flush: lines.out.Flush, together: true,
		// A node that is called again tells all that it remembers.
		up: func(node string) { known[node] = last[node] },
		accept: func(node string, v raw[api.Event]) bool {
			if at := v.value.Time; at.After(last[node]) {
				last[node] = at
			}
			return v.value.Time.After(known[node])
		},
		show: func(node string, v raw[api.Event]) error {
			return lines.write(node, view.EventLine(&v.value), v.line)
		},
	}
	return s.run(ctx, c)
}
