// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newList(run runner) *cobra.Command {
	var pods podFilter
	watching := false
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the attachments: the interfaces that are inspected",
		Long: `List the attachments: the interfaces whose packets nsqueued inspects, with their
counters. On a narrow terminal the table shortens pod names and leaves out
columns. A pipe gets everything, and -o wide has more columns.

With --watch it continues until Ctrl-C, also when nsqueued restarts. -o json
then prints one JSON object per line, -o yaml one document each time.`,
		Example: `  nsqueuectl list -n default -o wide
  nsqueuectl list --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				if err := pods.parse(); err != nil {
					return err
				}
				return c.lookOrWatch(ctx, watching, func(ctx context.Context) error {
					return list(ctx, c, pods, watching)
				})
			})
		},
	}
	pods.addTo(cmd, run)
	addWatch(cmd, &watching)
	return cmd
}

func list(ctx context.Context, c *command, pods podFilter, again bool) error {
	l, err := call(ctx, c, c.client.List)
	if err != nil {
		return err
	}
	l.Attachments = slices.DeleteFunc(l.Attachments, func(a api.Attachment) bool {
		return !pods.matches(a.Pod)
	})
	if c.printer().Structured() {
		return c.writeOne(again, l)
	}
	return c.show(again, func() error { return c.writeAttachments(l.Attachments) })
}

func (c *command) writeAttachments(attachments []api.Attachment) error {
	if len(attachments) == 0 {
		_, err := fmt.Fprintln(c.err, "No attachments.")
		return err
	}
	return c.printer().Table(view.Attachments(attachments, c.id, c.now()))
}
