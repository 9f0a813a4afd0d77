// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
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
	if c.structured() {
		return c.writeOne(again, l)
	}
	return c.show(again, func() error { return c.writeAttachments(l.Attachments) })
}

func (c *command) writeAttachments(attachments []api.Attachment) error {
	if len(attachments) == 0 {
		_, err := fmt.Fprintln(c.err, "No attachments.")
		return err
	}
	t := text.Table{
		Head: []string{
			"CONTAINER ID", "IFNAME", "POD", "HOOK", "POLICY", "STATE", "QUEUE", "PACKETS",
			"DROPPED", "REJECTED", "AGE", "READER", "NETWORK", "ORIGIN", "NETNS COOKIE", "NETNS",
		},
		Elastic: "POD", Spare: []string{"HOOK", "READER", "QUEUE", "IFNAME", "STATE"},
		Extra: []string{"REJECTED", "NETWORK", "ORIGIN", "NETNS COOKIE", "NETNS"},
	}
	for i := range attachments {
		a := &attachments[i]
		t.Add(c.id(a.ContainerID), a.Ifname, a.Pod.String(), a.Hook, string(a.FailurePolicy),
			string(a.State), queueNumbers(a.Queues), strconv.FormatUint(a.Counters.Packets, 10),
			strconv.FormatUint(a.Counters.Dropped, 10),
			strconv.FormatUint(a.Counters.Rejected, 10), text.Age(c.now().Sub(a.Created)),
			readerOf(a.Reader), cmp.Or(a.Network, "-"), cmp.Or(string(a.Origin), "-"),
			strconv.FormatUint(a.Netns.Cookie, 10), cmp.Or(a.Netns.Path, "-"))
	}
	return c.writeTable(&t)
}

// readerOf says what judges packets. Programs show the process that does.
func readerOf(r *api.Reader) string {
	switch {
	case r == nil:
		return "-"
	case r.Kind == api.ReaderInspector:
		return "inspector " + r.Name
	case r.Kind == api.ReaderProgram:
		return fmt.Sprintf("program %s (%d)", r.Name, r.PID)
	}
	return string(r.Kind)
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
