// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/fleet"
	"github.com/nsqueue/nsqueue/daemon/api"
)

func newList(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the attachments of all nodes",
		Long: `List the attachments of all nodes: the interfaces whose packets nsqueued
inspects, with their counters. With --watch it continues until Ctrl-C.

-o json prints them in one list, each with its node. With --watch it prints one
object per line and node, as nsqueuectl does, with the node's name.`,
		Example: `  kubectl nsqueue list --pod-namespace default -o wide
  kubectl nsqueue list --node node1 --watch`,
		Args: cobra.NoArgs,
	}
	remote, output, watching := newRemoteFlags(cmd), addOutput(cmd), addWatch(cmd)
	remote.pods()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.look(ctx, *watching, snapshot{
				args: remote.args("list"), key: "attachments", table: c.attachments,
				none: "No attachments.",
			})
		})
	}
	return cmd
}

func (c *command) attachments(out []byte) (*text.Table, error) {
	l, err := answers.Read[api.AttachmentList](out)
	return view.Attachments(l.Attachments, c.id, c.now()), err
}

// snapshot is what nodes are asked for at once, and how it is shown.
type snapshot struct {
	args []string
	// key is where an answer has the list of which its node is to be said; where it is
	// empty, the answer itself is one of many.
	key string
	// table is an answer as a table, which nodes share.
	table func(out []byte) (*text.Table, error)
	// more are lines below the table.
	more func(node string, out []byte) ([]string, error)
	// none is said where the table is empty.
	none string
}

// look asks once, or again and again.
func (c *command) look(ctx context.Context, watching bool, s snapshot) error {
	if watching {
		s.args = append(s.args, "--watch")
		return c.live(ctx, s.args, refreshInterval, func(list []fleet.Answer) error {
			_, err := c.writeTables(list, s, c.tellBad)
			return err
		})
	}
	list, bad, err := c.ask(ctx, append(s.args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := c.writeSnapshot(list, bad, s); err != nil {
		return err
	}
	return bad.err()
}

func (c *command) writeSnapshot(list []fleet.Answer, bad *unanswered, s snapshot) error {
	if c.printer().Structured() {
		return c.writeStructured(list, bad, s.key)
	}
	rows, err := c.writeTables(list, s, bad.add)
	if err == nil && rows == 0 && s.none != "" && len(list) > 0 {
		c.tell("%s", s.none)
	}
	return err
}

// tellBad tells of a node that sends what cannot be shown.
func (c *command) tellBad(node string, err error) { c.tell("%s: %v", node, err) }

// writeStructured prints the answers for programs: the lists that they have at a key as one,
// or all of them.
func (c *command) writeStructured(list []fleet.Answer, bad *unanswered, key string) error {
	var all []json.RawMessage
	for _, a := range list {
		items, err := stamped(&a, key)
		if err != nil {
			bad.add(a.Node, err)
			continue
		}
		all = append(all, items...)
	}
	if key == "" {
		key = "nodes"
	}
	return c.writeMerged(key, all, bad)
}

func stamped(a *fleet.Answer, key string) ([]json.RawMessage, error) {
	if key != "" {
		return answers.Items(a.Node, a.Out, key)
	}
	one, err := answers.OfNode(a.Node, a.Out)
	return []json.RawMessage{one}, err
}

// writeTables prints the tables of the nodes as one, and returns how many rows that has. It
// leaves out those of nodes that send something else, and calls bad with them.
func (c *command) writeTables(
	list []fleet.Answer, s snapshot, bad func(node string, err error),
) (rows int, err error) {
	var tables []*text.Table
	var more []string
	for _, a := range list {
		t, err := s.table(a.Out)
		var lines []string
		if err == nil && s.more != nil {
			lines, err = s.more(a.Node, a.Out)
		}
		if err != nil {
			bad(a.Node, err)
			continue
		}
		t.Lead("NODE", a.Node)
		tables, more = append(tables, t), append(more, lines...)
	}
	all := text.Join(tables...)
	if all.Rows() > 0 {
		err = c.printer().Table(all)
	}
	for _, line := range more {
		if err == nil {
			_, err = fmt.Fprintln(c.out, text.Wrap(line, "  "))
		}
	}
	return all.Rows(), err
}
