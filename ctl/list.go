// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func newList(run runner) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the attachments: what is inspected",
		Long: `List the attachments: the interfaces whose packets nsqueued inspects, with what
it has seen of them.`,
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
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONTAINER ID\tIFNAME\tPOD\tHOOK\tPOLICY\tSTATE\tQUEUE\tPACKETS\tDROPPED\tAGE")
	for _, a := range attachments {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n",
			shortID(a.ContainerID), a.Ifname, a.Pod, a.Hook, a.FailurePolicy, a.State,
			queueNumbers(a.Queues), a.Counters.Packets, a.Counters.Dropped,
			age(c.now().Sub(a.Created)))
	}
	return w.Flush()
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
