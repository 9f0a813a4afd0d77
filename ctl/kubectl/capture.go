// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nsqueue/nsqueue/ctl/internal/options"
	"github.com/nsqueue/nsqueue/ctl/internal/pcapng"
	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/pcap"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// captureFlags are the command's own flags.
type captureFlags struct {
	options.Capture

	window *time.Duration
}

func newCapture(run runner) *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture -w FILE.pcapng",
		Short: "Write packets of all nodes and their verdicts to one file",
		Long: `Write the packets that nsqueued inspects from now on to one pcapng file, until
Ctrl-C or one of the limits: those of all nodes, in the order of time, so that a
connection between nodes can be followed. The file has an interface for each pod
of each node, whose description names the node, and the verdict, rule and marks
as the comment of each packet. FILE - is standard output.

Nodes leave out packets that come faster than --rate or than the connection takes
them. Nodes that do not answer at the end are named, and the exit status is 1;
what others have sent is in the file.`,
		Example: `  kubectl nsqueue capture -w dns.pcapng --protocol udp --port 53 --count 100
  kubectl nsqueue capture -w - --pod default/busybox1 | tshark -r -`,
		Args: cobra.NoArgs,
	}
	remote := newRemoteFlags(cmd)
	f.window = addWindow(cmd)
	f.AddTo(cmd)
	remote.packets(options.CaptureRate)
	remote.names["snaplen"] = "snaplen"
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.Validate(); err != nil {
			return usageErrorf("%w", err)
		}
		if err := checkWindow(*f.window); err != nil {
			return err
		}
		return run(cmd.Context(), text.Formats()[0], func(ctx context.Context, c *command) error {
			// Limits of the whole capture are not those of a node.
			return c.capture(ctx, remote.args("capture", "-w", "-", "--max-size=0"), &f)
		})
	}
	return cmd
}

func (c *command) capture(ctx context.Context, args []string, f *captureFlags) (err error) {
	if err := f.CheckOutput(c.width()); err != nil {
		return usageErrorf("%w", err)
	}
	if f.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Duration)
		defer cancel()
	}
	w := &recorder{interfaces: map[string]int{}, nodes: map[string]bool{}, limits: &f.Capture}
	defer func() { err = errors.Join(err, failed(w.close())) }()
	s := stream[packet]{
		args: args, window: *f.window, sink: packets, gap: packetGap,
		time: func(p packet) time.Time { return p.Time },
		show: w.record, flush: w.flush,
		begin: func() error {
			if err := w.open(c.raw); err != nil {
				return err
			}
			c.tell("capturing; press Ctrl-C to stop")
			return nil
		},
	}
	err = s.run(ctx, c)
	if w.Writer != nil {
		c.tell("%s of %s written", text.Plural(int(w.written), "packet"),
			text.Plural(len(w.nodes), "node"))
	}
	return err
}

// packet is one of a capture.
type packet struct {
	pcap.Packet

	// Data are the bytes of the packet.
	Data []byte
}

// packets is a sink of captures.
func packets(emit func(packet) error) io.WriteCloser {
	r, w := io.Pipe()
	s := &captureSink{PipeWriter: w, ended: make(chan error, 1)}
	go func() {
		err := readPackets(r, emit)
		_ = r.CloseWithError(err)
		s.ended <- err
	}()
	return s
}

type captureSink struct {
	*io.PipeWriter
	ended chan error
}

// Close waits for the reader.
func (s *captureSink) Close() error {
	_ = s.PipeWriter.Close()
	if err := <-s.ended; !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// readPackets calls emit with each packet of a capture.
func readPackets(from io.Reader, emit func(packet) error) error {
	r, err := pcap.NewReader(bufio.NewReader(from))
	if err != nil {
		return fmt.Errorf("the node sends no capture: %w", err)
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return err
		}
		if err != nil {
			return fmt.Errorf("read the node's capture: %w", err)
		}
		if err := emit(packet{p, slices.Clone(p.IP)}); err != nil {
			return err
		}
	}
}

// recorder writes packets of several nodes into one file, and an interface before the first
// packet of each pod.
type recorder struct {
	*pcapng.Writer

	file       io.WriteCloser
	blocks     *bufio.Writer // what is not written yet
	interfaces map[string]int
	nodes      map[string]bool
	limits     *options.Capture
	written    uint64
}

// open begins the file.
func (r *recorder) open(stdout io.Writer) (err error) {
	if r.file, err = r.limits.Open(stdout); err != nil {
		return err
	}
	r.blocks = bufio.NewWriter(r.file)
	r.Writer, err = pcapng.NewWriter(r.blocks, "nsqueuectl "+api.Version()+" (kubectl-nsqueue)")
	return errors.Join(err, r.flush())
}

func (r *recorder) flush() error { return r.blocks.Flush() }

func (r *recorder) close() error {
	if r.file == nil {
		return nil
	}
	return errors.Join(r.flush(), r.file.Close())
}

// record writes a packet, and returns errEnough at the limits.
func (r *recorder) record(node string, p packet) error {
	i, err := r.interfaceOf(node, p.Interface)
	if err != nil {
		return err
	}
	directions := map[pcap.Direction]pcapng.Direction{
		pcap.Inbound: pcapng.Inbound, pcap.Outbound: pcapng.Outbound,
	}
	err = r.WritePacket(&pcapng.Packet{
		Interface: i, Time: p.Time, Data: p.Data, Length: p.Length,
		Direction: directions[p.Direction], Comment: short(p.Comment),
	})
	if err != nil {
		return err
	}
	r.written++
	r.nodes[node] = true
	if r.limits.IsEnough(r.written, r.Size()) {
		return errEnough
	}
	return nil
}

// interfaceOf returns the number of a pod's interface. It has the name that it has on the
// node, by which rules find the pod.
func (r *recorder) interfaceOf(node string, in *pcap.Interface) (int, error) {
	key := node + "\x00" + in.Name + "\x00" + in.Description
	if i, known := r.interfaces[key]; known {
		return i, nil
	}
	i, err := r.AddInterface(pcapng.Interface{
		Name: short(in.Name), Description: short(in.Description + ", node " + node),
		SnapLen: uint32(r.limits.SnapLen),
	})
	if err == nil {
		r.interfaces[key] = i
	}
	return i, err
}

// short escapes a text of a node, and cuts what is longer than any name or comment.
func short(s string) string {
	const most = 2000
	return printable.Line(s[:min(len(s), most)])
}
