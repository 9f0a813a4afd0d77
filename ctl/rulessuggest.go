// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/suggest"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// suggestFlags are the command's own flags.
type suggestFlags struct {
	podFilter

	since time.Duration
}

func newRulesSuggest(run runner) *cobra.Command {
	var f suggestFlags
	cmd := &cobra.Command{
		Use:   "suggest",
		Short: "Write rules that accept the names that pods asked for",
		Long: `Write rules that accept the names that pods asked for of late, and nothing else
that pods open: a set for each namespace, or for one pod. The sets audit, so
they refuse nothing until their mode is Enforce. Read them before: nsqueued
cannot know which names were right.

Names that were refused are left out, and so are texts that are no names.
nsqueued looks for names only where a rule asks for some, such as one that logs
with the condition
  tls.sni != "" || http.host != "" || dns.name != ""`,
		Example: `  nsqueuectl rules suggest --since 1h --namespace agents
  nsqueuectl rules suggest --pod agents/a1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return suggestRules(ctx, c, &f)
			})
		},
	}
	cmd.Flags().DurationVar(&f.since, "since", time.Hour, "names of this `TIME` until now")
	f.addTo(cmd, run)
	return cmd
}

func suggestRules(ctx context.Context, c *command, f *suggestFlags) error {
	if err := f.parse(); err != nil {
		return err
	}
	if f.since <= 0 {
		return usageErrorf("since %s: want more than 0", f.since)
	}
	seen, err := call(ctx, c, func(ctx context.Context) (api.ObservedNames, error) {
		return c.client.Names(ctx, f.since)
	})
	if err != nil {
		return err
	}
	sets, left := suggest.From(seen.Names, f.pod, f.matches)
	c.tellLeftOut(left, seen.Forgotten)
	if len(sets) == 0 {
		_, err := fmt.Fprintln(c.err, "No names.")
		return err
	}
	for _, set := range sets {
		if _, err := set.YAML(); err != nil {
			return err
		}
	}
	for _, set := range sets {
		if err := c.writeSuggested(set); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) tellLeftOut(left suggest.LeftOut, forgotten uint64) {
	if left.Refused > 0 {
		fmt.Fprintf(c.err, "%s left out: refused\n", text.Plural(left.Refused, "name"))
	}
	if left.Strange > 0 {
		fmt.Fprintf(c.err, "%s left out: no names of hosts\n", text.Plural(left.Strange, "text"))
	}
	if forgotten > 0 {
		fmt.Fprintf(c.err, "%d more names than nsqueued can remember\n", forgotten)
	}
}

// writeSuggested prints a set as YAML unless JSON is wanted.
func (c *command) writeSuggested(set *suggest.Set) error {
	if c.output != "json" {
		y := *c
		y.output = "yaml"
		return y.printer().Item(set)
	}
	return c.printer().Item(set)
}
