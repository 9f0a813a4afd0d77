// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Where an inspector connects, and what a program binds.
const (
	inspectorSocket = "/run/bench/inspectors/bench.sock"
	programQueue    = 90
	programLimit    = 30 * time.Second
)

// socketConfig is the configuration for inspectors on sockets, and programConfig the one
// for a program behind nsqueued's queue.
const (
	socketConfig = `inspectors:
- {name: bench, pods: {}, socket: %s, transport: memfd, budget: 10s}
`
	programConfig = `inspectors:
- name: bench
  pods: %s
  budget: 10s
  exec: {command: [%s, "${QUEUE}", "%d", "%d", "%d"], queue: %d, user: {uid: 0}}
`
)

// outsider is nsqueued with something outside that judges packets.
type outsider struct {
	contender

	// inspector is a program that connects, nil for none.
	inspector []string
	// program says that nsqueued starts one.
	program bool
}

// program is the path of one that was built for the benchmark.
func program(bin, name string) string { return filepath.Join(bin, "test", "bench-"+name) }

// programConfigOf has a program read these pods.
func programConfigOf(bin, pods string) string {
	return fmt.Sprintf(programConfig, pods, program(bin, "classic"), queueLength, copyRange,
		receiveBuffer, programQueue)
}

// outsiders returns the rows in the report's order.
func outsiders(b *bed) []*outsider {
	bin := b.options.bin
	all := []*outsider{
		{contender: contender{name: report.InspectorsNone, label: "nsqueued accepts everything"}},
	}
	for _, transport := range []string{"messages", "memfd"} {
		for _, batch := range report.InspectorBatches() {
			all = append(all, &outsider{
				contender: contender{
					name:   report.InspectorRow(transport, batch),
					label:  fmt.Sprintf("inspector in C, %s, %d a batch", transport, batch),
					config: fmt.Sprintf(socketConfig, inspectorSocket),
				},
				inspector: []string{
					program(bin, "inspector"), inspectorSocket, fmt.Sprint(batch), transport,
				},
			})
		}
	}
	all = append(all, &outsider{contender: contender{
		name: report.ReaderBatch, label: "C, recvmmsg, batch verdict, alone",
		argv: readerOf(bin, "mmsg", "batch"),
	}}, &outsider{contender: contender{
		name: report.ReaderAlone, label: "C, libnetfilter_queue, alone",
		argv: readerOf(bin, "classic"),
	}}, &outsider{
		contender: contender{
			name: report.ReaderBehind, label: "the same, as a program behind nsqueued",
			config: programConfigOf(bin, "{}"),
		},
		program: true,
	})
	for _, c := range all {
		c.bed = b
	}
	return all
}

// measureInspectors measures inspectors and programs outside nsqueued beside what they are
// to be compared with.
func measureInspectors(ctx context.Context, o *options, r *report.Report) error {
	b, err := newBed(o, "inspectors")
	if err != nil {
		return err
	}
	if err := b.arm(ctx, ""); err != nil {
		return err
	}
	all := outsiders(b)
	for _, c := range all {
		r.Inspectors = append(r.Inspectors, report.Row{Name: c.name, Label: c.label})
	}
	for round := range o.rounds {
		for i := range all {
			turn := (i + round) % len(all)
			if err := all[turn].measure(ctx, &r.Inspectors[turn]); err != nil {
				return fmt.Errorf("%s: %w", all[turn].name, err)
			}
			row := &r.Inspectors[turn]
			progress("round %d of %d: %-18s UDP %.2f µs, round trip %.1f µs", round+1, o.rounds,
				row.Name, last(row, report.FloodCPU), last(row, report.PingP50))
		}
	}
	return errors.Join(b.remove(ctx), measureProgramAttach(ctx, o, r))
}

func (c *outsider) measure(ctx context.Context, row *report.Row) error {
	read, err := c.start(ctx)
	if err != nil {
		return err
	}
	return errors.Join(c.flood(read, row), c.ping(read, row), c.sawPackets(read), read.stop())
}

// start returns when what is outside judges packets.
func (c *outsider) start(ctx context.Context) (*reader, error) {
	read, err := c.contender.start(ctx)
	switch {
	case err != nil:
		return nil, err
	case c.inspector != nil:
		err = c.connect(read)
	case c.program:
		err = c.await(ctx, read)
	}
	if err != nil {
		return nil, errors.Join(err, read.stop())
	}
	return read, nil
}

// connect starts the inspector, which ends with its reader.
func (c *outsider) connect(read *reader) error {
	inspector, err := startProgram(c.bed.client, c.inspector)
	if err != nil {
		return err
	}
	stop := read.stop
	read.beside = inspector.pid
	read.stop = func() error { return errors.Join(inspector.stop(), stop()) }
	return nil
}

// await waits until the program reads.
func (c *outsider) await(ctx context.Context, read *reader) error {
	d, err := c.bed.daemon(c.config)
	if err != nil {
		return err
	}
	var program api.Program
	there := nstest.Poll(programLimit, func() bool {
		list, err := d.Client.List(ctx)
		if err != nil || len(list.Attachments) != 1 || len(list.Attachments[0].Programs) != 1 {
			return false
		}
		program = list.Attachments[0].Programs[0]
		return program.Ready
	})
	if !there {
		return fmt.Errorf("the program does not read: %+v", program)
	}
	read.beside = program.PID
	return nil
}
