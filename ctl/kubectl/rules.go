// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// newRules returns the commands about rules. Those of nsqueuectl that read files need no
// cluster.
func newRules(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rules",
		Short:   "Show the rules that decide packets, on all nodes",
		Example: "  kubectl nsqueue rules list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesList(run))
	return cmd
}

func newRulesList(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rules in force on all nodes, and how often they decided",
		Long: `List the rules that nsqueued judges packets by on each node, in the order in
which they are asked, with how often each decided there. Where files were
refused, it says below what is wrong with them; the rules in force are then those
of before.`,
		Example: `  kubectl nsqueue rules list
  kubectl nsqueue rules list -o wide --watch`,
		Args: cobra.NoArgs,
	}
	remote, output, watching := newRemoteFlags(cmd), addOutput(cmd), addWatch(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.look(ctx, *watching, snapshot{
				args: remote.args("rules list"), table: c.rules, more: refusedFiles,
				none: "No rules in force.",
			})
		})
	}
	return cmd
}

func (c *command) rules(out []byte) (*text.Table, error) {
	r, err := answers.Read[api.Rules](out)
	return view.Rules(r.Sets, c.now()), err
}

// refusedFiles are lines about files that nsqueued has not taken.
func refusedFiles(node string, out []byte) ([]string, error) {
	r, err := answers.Read[api.Rules](out)
	var lines []string
	for _, e := range r.Errors {
		lines = append(lines, fmt.Sprintf("%s: refused: %s", node, e))
	}
	return lines, err
}
