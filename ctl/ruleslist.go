// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newRulesList(run runner) *cobra.Command {
	watching := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rules in force, and how often they decided",
		Long: `List the rules that nsqueued judges packets by, in the order in which they are
asked, with how often each decided or had an effect since nsqueued started. PODS
is how many attachments some rule of the set concerns.

Where files were refused, it says what is wrong with them; the rules in force
are then those of before.`,
		Example: `  nsqueuectl rules list
  nsqueuectl rules list -o wide --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return c.lookOrWatch(ctx, watching, func(ctx context.Context) error {
					return listRules(ctx, c, watching)
				})
			})
		},
	}
	addWatch(cmd, &watching)
	return cmd
}

func listRules(ctx context.Context, c *command, again bool) error {
	r, err := call(ctx, c, c.client.Rules)
	if err != nil {
		return err
	}
	if c.printer().Structured() {
		return c.writeOne(again, r)
	}
	return c.show(again, func() error { return c.writeRules(&r) })
}

func (c *command) writeRules(r *api.Rules) error {
	if r.Directory == "" {
		_, err := fmt.Fprintln(c.err, "nsqueued has no rules: its configuration has no "+
			"rules.directory.")
		return err
	}
	if len(r.Sets) == 0 {
		fmt.Fprintln(c.err, "No rules in force.")
	} else if err := c.printer().Table(view.Rules(r.Sets, c.now())); err != nil {
		return err
	}
	for _, e := range r.Errors {
		fmt.Fprintf(c.err, "refused: %s\n", e)
	}
	return nil
}

func newRulesReload(run runner) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have nsqueued read its rules again",
		Long: `Have nsqueued read its rules again, as it does by itself when files change and
at SIGHUP. Where anything is wrong with any file, nothing changes: it then says
what is wrong, and its exit status is 1.`,
		Example: "  nsqueuectl rules reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), reloadRules)
		},
	}
}

func reloadRules(ctx context.Context, c *command) error {
	r, err := call(ctx, c, c.client.ReloadRules)
	if err != nil {
		return err
	}
	if err := c.writeReloaded(&r); err != nil || len(r.Errors) == 0 {
		return err
	}
	return errors.New("nothing has changed: " + text.Plural(len(r.Errors), "error"))
}

func (c *command) writeReloaded(r *api.Rules) error {
	if c.printer().Structured() {
		return c.printer().Object(r)
	}
	for _, e := range r.Errors {
		if err := c.printLine("%s", e); err != nil {
			return err
		}
	}
	if len(r.Errors) > 0 {
		return nil
	}
	return c.printLine("%s in force", text.Plural(len(r.Sets), "set"))
}
