// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/options"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
)

func newStats(run runner) *cobra.Command {
	var f options.Loads
	cmd := &cobra.Command{
		Use:     "stats",
		Aliases: []string{"top"},
		Short:   "Show packet rates per pod of all nodes, live",
		Long: `Show the load of each attachment of all nodes, again after each interval until
Ctrl-C. The busiest come first, at most --limit of them. nsqueuectl stats --help
says what the columns mean. -o json prints one JSON object per line and node.`,
		Example: `  kubectl nsqueue stats --sort drops
  kubectl nsqueue stats --once --limit 0 -o json`,
		Args: cobra.NoArgs,
	}
	remote, output := newRemoteFlags(cmd), addOutput(cmd)
	remote.pods()
	f.AddTo(cmd)
	for _, name := range []string{"sort", "interval", "limit"} {
		remote.names[name] = name
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.stats(ctx, remote.args("stats"), f)
		})
	}
	return cmd
}

func (c *command) stats(ctx context.Context, args []string, f options.Loads) error {
	compare, err := f.Compare()
	if err != nil {
		return usageErrorf("%w", err)
	}
	show := func(list []fleet.Answer, bad func(string, error)) error {
		return c.writeLoads(list, compare, f.Limit, bad)
	}
	if !f.Once {
		return c.live(ctx, args, f.Interval, func(list []fleet.Answer) error {
			return show(list, c.tellBad)
		})
	}
	list, bad, err := c.ask(ctx, append(args, "--once", "-o", "json")...)
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		err = c.writeStructured(list, bad, "")
	} else {
		err = show(list, bad.add)
	}
	if err != nil {
		return err
	}
	return bad.err()
}

// nodeLoad is the load of an attachment of a node.
type nodeLoad struct {
	node string
	load view.Load
}

func (c *command) writeLoads(
	list []fleet.Answer, compare func(a, b view.Load) int, limit int,
	bad func(node string, err error),
) error {
	var all []nodeLoad
	for _, a := range list {
		loads, err := answers.Read[view.Loads](a.Out)
		if err != nil {
			bad(a.Node, err)
			continue
		}
		for _, l := range loads.Attachments {
			all = append(all, nodeLoad{a.Node, l})
		}
	}
	slices.SortStableFunc(all, func(a, b nodeLoad) int { return compare(a.load, b.load) })
	if limit > 0 && limit < len(all) {
		all = all[:limit]
	}
	fmt.Fprintf(c.out, "%s  %s, %s shown\n", c.now().UTC().Format(time.RFC3339),
		text.Plural(len(list), "node"), text.Plural(len(all), "attachment"))
	rows := make([]*text.Table, len(all))
	for i := range all {
		rows[i] = view.LoadTable([]view.Load{all[i].load})
		rows[i].Lead("NODE", all[i].node)
	}
	if len(rows) == 0 {
		return nil
	}
	return c.printer().Table(text.Join(rows...))
}
