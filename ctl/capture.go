// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/options"
	"github.com/nsqueue/nsqueue/ctl/internal/pcapng"
	"github.com/nsqueue/nsqueue/ctl/internal/view"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// captureFlags are the command's own flags.
type captureFlags struct {
	filterFlags
	options.Capture
}

func newCapture(run runner) *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture -w FILE.pcapng",
		Short: "Write packets and their verdicts to a file for Wireshark",
		Long: `Write the packets that nsqueued inspects from now on to a pcapng file, until
Ctrl-C or one of the limits. The file has an interface for each pod, and the
verdict, rule and marks as the comment of each packet. FILE - is standard
output.

Verdicts never wait for the capture. It leaves out, and counts, packets that
come faster than --rate or faster than they can be written. It writes as much of
a packet as nsqueued gets from the kernel, at most --snaplen bytes. It needs
root, and continues when nsqueued restarts.`,
		Example: `  nsqueuectl capture -w dns.pcapng --protocol udp --port 53 --count 100
  nsqueuectl capture -w - --pod default/busybox1 | tshark -r -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), func(ctx context.Context, c *command) error {
				return capture(ctx, c, f)
			})
		},
	}
	f.Capture.AddTo(cmd)
	f.filterFlags.addTo(cmd, run, options.CaptureRate)
	return cmd
}

func capture(ctx context.Context, c *command, f captureFlags) (err error) {
	if err := f.Validate(); err != nil {
		return usageErrorf("%s", err)
	}
	req, err := f.request()
	if err != nil {
		return err
	}
	req.Payload = f.SnapLen
	if err := f.CheckOutput(c.width()); err != nil {
		return usageErrorf("%s", err)
	}
	out, err := f.Open(c.raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w, err := newRecorder(out, f.SnapLen)
	if err != nil {
		return err
	}
	if f.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Duration)
		defer cancel()
	}
	t := packetCounts{verdicts: map[string]uint64{}, verb: "written"}
	capturing := func() {
		t.renumber()
		fmt.Fprintln(c.err, "capturing; press Ctrl-C to stop")
	}
	err = c.watchPackets(ctx, req, capturing, func(events []api.PacketEvent) error {
		return w.recordAll(events, &t, &f.Capture)
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil || t.printed > 0 {
		fmt.Fprintln(c.err, t.summary())
	}
	return err
}

// recorder writes packets, and an interface before the first packet of each pod.
type recorder struct {
	*pcapng.Writer

	blocks     *bufio.Writer // what is not written yet
	snapLen    int
	interfaces map[api.Key]int
}

func newRecorder(out io.Writer, snapLen int) (*recorder, error) {
	blocks := bufio.NewWriter(out)
	w, err := pcapng.NewWriter(blocks, "nsqueuectl "+api.Version())
	return &recorder{
		Writer: w, blocks: blocks, snapLen: snapLen, interfaces: map[api.Key]int{},
	}, errors.Join(err, blocks.Flush())
}

// recordAll writes packets, and returns errEnough at the limits.
func (r *recorder) recordAll(
	events []api.PacketEvent, t *packetCounts, limits *options.Capture,
) error {
	enough := false
	for i := 0; i < len(events) && !enough; i++ {
		if err := r.record(&events[i]); err != nil {
			return err
		}
		t.add(&events[i])
		enough = limits.IsEnough(t.printed, r.Size())
	}
	return flush(r.blocks, enough)
}

func (r *recorder) record(e *api.PacketEvent) error {
	i, known := r.interfaces[e.Key]
	if !known {
		name := e.Pod.String()
		if e.Pod.Name == "" {
			name = view.ShortID(e.ContainerID) + "/" + e.Ifname
		}
		var err error
		i, err = r.AddInterface(pcapng.Interface{
			Name:        printable.Line(name),
			Description: printable.Line("container " + e.ContainerID + ", interface " + e.Ifname),
			SnapLen:     uint32(r.snapLen),
		})
		if err != nil {
			return err
		}
		r.interfaces[e.Key] = i
	}
	direction := map[string]pcapng.Direction{"in": pcapng.Inbound, "out": pcapng.Outbound}
	return r.WritePacket(&pcapng.Packet{
		Interface: i, Time: e.Time, Data: e.Payload, Length: e.Length,
		Direction: direction[e.Direction],
		Comment: printable.Line(fmt.Sprintf(
			"verdict: %s%s, origin mark: 0x%08x, set mark: 0x%08x",
			e.Verdict, view.RuleOf(e), e.OriginMark, e.SetMark)),
	})
}
