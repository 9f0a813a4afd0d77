// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/answers"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// watchRate is more packets a second than a terminal shows to any use.
const watchRate = 500

// packetGap is what is said of packets while a node was away.
const packetGap = "; its packets in between are missing"

func newWatch(run runner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print each packet of all nodes as it gets its verdict",
		Long: `Print a line for each packet that nsqueued inspects on some node from now on,
until Ctrl-C: the node, and what nsqueuectl watch prints. Lines are in the order
of the packets' own times. Each is held for a while (--window), because an older
one of another node may be on its way; nodes whose clocks differ by more are not
in order.

A node that is lost is named, and called again until it answers. Those that do
not answer at the end are named again, and the exit status is 1. Verdicts never
wait: nodes leave out packets that come faster than --rate or than the connection
takes them, and the summary counts them.`,
		Example: `  kubectl nsqueue watch --pod default/busybox1
  kubectl nsqueue watch --verdict reject -o json
  kubectl nsqueue watch --node node1 --count 10`,
		Args: cobra.NoArgs,
	}
	remote, output, window := newRemoteFlags(cmd), addOutput(cmd), addWindow(cmd)
	count := cmd.Flags().Uint64("count", 0, "stop after `N` packets (default: do not stop)")
	remote.packets(watchRate)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkWindow(*window); err != nil {
			return err
		}
		return run(cmd.Context(), *output, func(ctx context.Context, c *command) error {
			return c.watch(ctx, remote.args("watch", "-o", "json"), *window, *count)
		})
	}
	return cmd
}

func (c *command) watch(
	ctx context.Context, args []string, window time.Duration, count uint64,
) error {
	lines, seen := newLinePrinter(c), newPacketCounts("printed")
	s := stream[raw[api.PacketEvent]]{
		args: args, window: window, sink: rawLines(answers.Read[api.PacketEvent]),
		time:  func(v raw[api.PacketEvent]) time.Time { return v.value.Time },
		flush: lines.out.Flush, gap: packetGap, up: seen.renumber,
		show: func(node string, v raw[api.PacketEvent]) error {
			if err := lines.write(node, view.PacketLine(&v.value), v.line); err != nil {
				return err
			}
			if seen.add(node, &v.value); seen.done == count { // never 0 here
				return errEnough
			}
			return nil
		},
	}
	began := false
	s.begin = func() error {
		began = true
		c.tell("watching; press Ctrl-C to stop")
		return nil
	}
	err := s.run(ctx, c)
	if began {
		c.tell("%s", seen.summary())
	}
	return err
}

// packetCounts counts what was seen of packets.
type packetCounts struct {
	done     uint64
	nodes    map[string]*numbers
	verdicts map[string]uint64
	order    []string // of the verdicts, as they came
	verb     string   // what was done to packets
}

// numbers are those that a node gives its packets, also those that it leaves out.
type numbers struct {
	last   uint64
	before uint64 // as many were numbered by connections of before
}

func newPacketCounts(verb string) *packetCounts {
	return &packetCounts{
		nodes: map[string]*numbers{}, verdicts: map[string]uint64{}, verb: verb,
	}
}

// renumber is called when a node begins to number packets.
func (t *packetCounts) renumber(node string) {
	if n := t.nodes[node]; n != nil {
		n.before, n.last = n.before+n.last, 0
	}
}

func (t *packetCounts) add(node string, e *api.PacketEvent) {
	n := t.nodes[node]
	if n == nil {
		n = &numbers{}
		t.nodes[node] = n
	}
	if e.Packet <= n.last { // of a daemon that has followed
		n.before, n.last = n.before+n.last, 0
	}
	n.last = e.Packet
	t.done++
	if t.verdicts[e.Verdict] == 0 {
		t.order = append(t.order, e.Verdict)
	}
	t.verdicts[e.Verdict]++
}

// summary says what was done, and how many packets came too fast.
func (t *packetCounts) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s %s", text.Plural(int(t.done), "packet"),
		text.Plural(len(t.nodes), "node"), t.verb)
	for i, v := range t.order {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%d %s", sep, t.verdicts[v], v)
	}
	numbered := uint64(0)
	for _, n := range t.nodes {
		numbered += n.before + n.last
	}
	if numbered > t.done {
		fmt.Fprintf(&b, "; %d left out because they came too fast", numbered-t.done)
	}
	return b.String()
}
