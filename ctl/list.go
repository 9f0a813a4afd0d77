// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func newList(run runner) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the attachments: what is inspected",
		Long: `List the attachments: the interfaces whose packets nsqueued inspects, with what
it has seen of them. On a narrow terminal, names of pods are shortened and some
columns left out; a pipe gets everything.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), list)
		},
	}
}

func list(ctx context.Context, c *command) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	l, err := c.client.List(ctx)
	if err != nil {
		return err
	}
	if c.structured() {
		return c.writeObject(l)
	}
	if len(l.Attachments) == 0 {
		_, err := fmt.Fprintln(c.err, "No attachments.")
		return err
	}
	return c.writeTable(l.Attachments)
}

func (c *command) writeTable(attachments []api.Attachment) error {
	t := table{
		head: []string{
			"CONTAINER ID", "IFNAME", "POD", "HOOK", "POLICY", "STATE", "QUEUE", "PACKETS",
			"DROPPED", "AGE",
		},
		elastic: "POD", spare: []string{"HOOK", "QUEUE", "IFNAME", "STATE"},
	}
	for i := range attachments {
		a := &attachments[i]
		t.add(shortID(a.ContainerID), a.Ifname, a.Pod.String(), a.Hook, string(a.FailurePolicy),
			string(a.State), queueNumbers(a.Queues), strconv.FormatUint(a.Counters.Packets, 10),
			strconv.FormatUint(a.Counters.Dropped, 10), age(c.now().Sub(a.Created)))
	}
	return t.write(c.out, c.width())
}

// queueNumbers prints consecutive numbers as a range.
func queueNumbers(queues []api.Queue) string {
	if len(queues) == 0 {
		return "-"
	}
	var ranges []string
	for i := 0; i < len(queues); {
		first, last := queues[i].Number, queues[i].Number
		for i++; i < len(queues) && last < queues[i].Number && queues[i].Number-last == 1; i++ {
			last = queues[i].Number
		}
		r := strconv.Itoa(int(first))
		if last != first {
			r += "-" + strconv.Itoa(int(last))
		}
		ranges = append(ranges, r)
	}
	return strings.Join(ranges, ",")
}
