// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// watchFlags are the command's own flags.
type watchFlags struct {
	filterFlags

	count uint64
}

func newWatch(run runner) *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print each packet as it gets its verdict",
		Long: `Print a line for each packet that nsqueued inspects from now on, until Ctrl-C.
New lines come 20 times a second. -o json prints one JSON object per line, -o
yaml one document per packet.

Verdicts never wait for the terminal. watch leaves out packets that come faster
than --rate or faster than they can be printed, and counts them in the summary.
nsqueued itself selects the packets. With --no-probes it leaves out all packets
between pods and addresses of the node: probes of the kubelet, and everything
else that the node sends or forwards under its own address.

A packet has the rule that decided it, or its flow before, as SET/RULE. RULE is
default or midstream where the set decided without one. SET is nsqueue where a
packet is refused whatever rules say. A packet of a flow that is not decided has
no rule.

watch continues when nsqueued restarts; it neither shows nor counts the packets
in between.`,
		Example: `  nsqueuectl watch
  nsqueuectl watch --pod default/busybox1 --count 10
  nsqueuectl watch -n default --protocol udp --port 53 --verdict drop
  nsqueuectl watch --verdict reject --rule agents/default`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return watch(ctx, c, f)
			})
		},
	}
	cmd.Flags().Uint64Var(&f.count, "count", 0, "stop after `N` packets (default: do not stop)")
	f.addTo(cmd, run, watchRate)
	return cmd
}

// watchRate is more packets a second than a terminal shows to any use.
const watchRate = 500

// errEnough ends a watch that has printed what was asked for.
var errEnough = errors.New("enough packets")

func watch(ctx context.Context, c *command, f watchFlags) error {
	req, err := f.request()
	if err != nil {
		return err
	}
	t := packetCounts{verdicts: map[string]uint64{}, verb: "printed"}
	watching := func() {
		t.renumber()
		fmt.Fprintln(c.err, "watching; press Ctrl-C to stop")
	}
	lines := bufio.NewWriter(c.out)
	c.out = lines
	err = c.watchPackets(ctx, req, watching, func(events []api.PacketEvent) error {
		enough := false
		for i := 0; i < len(events) && !enough; i++ {
			t.add(&events[i])
			if err := c.printPacket(&events[i]); err != nil {
				return fmt.Errorf("print packet: %w", err)
			}
			enough = t.printed == f.count // never 0 here
		}
		return flush(lines, enough)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil || t.printed > 0 {
		fmt.Fprintln(c.err, t.summary())
	}
	return err
}

// flush writes what has come together, and ends the watch if that is enough.
func flush(w *bufio.Writer, enough bool) error {
	if err := w.Flush(); err != nil {
		return err
	}
	if enough {
		return errEnough
	}
	return nil
}

func (c *command) printPacket(e *api.PacketEvent) error {
	if c.printer().Structured() {
		return c.printer().Item(e)
	}
	return c.printLine("%s", view.PacketLine(e))
}

// packetCounts counts what a watch saw.
type packetCounts struct {
	printed  uint64
	last     uint64 // the number of the last packet
	before   uint64 // as many were numbered by earlier daemons
	verdicts map[string]uint64
	order    []string // of the verdicts, as they came
	verb     string   // what was done to them
}

// renumber is called when a daemon begins to number packets.
func (t *packetCounts) renumber() { t.before, t.last = t.before+t.last, 0 }

func (t *packetCounts) add(e *api.PacketEvent) {
	t.last = e.Packet
	t.printed++
	if t.verdicts[e.Verdict] == 0 {
		t.order = append(t.order, e.Verdict)
	}
	t.verdicts[e.Verdict]++
}

// summary says what was printed, and how many packets came too fast. The
// daemon numbers the packets of a watch, also those it leaves out.
func (t *packetCounts) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", text.Plural(int(t.printed), "packet"), t.verb)
	for i, v := range t.order {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%d %s", sep, t.verdicts[v], v)
	}
	if n := t.before + t.last - t.printed; n > 0 {
		fmt.Fprintf(&b, "; %d left out because they came too fast", n)
	}
	return b.String()
}
