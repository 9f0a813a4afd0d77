// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What nsqueued's queue has by default, and so every contender's.
const (
	queueNumber   = 80
	queueLength   = 4096
	copyRange     = 0xffff - 4
	receiveBuffer = 8 << 20
)

// contender is one way to read the queue.
type contender struct {
	name, label string
	bed         *bed
	// argv is a program that serves the queue of the netns it is started in,
	// nil where nsqueued serves it with this configuration.
	argv   []string
	config string
	// rules is the directory of the rules that nsqueued decides by; empty: it accepts.
	rules string
	// watch has clients look at nsqueued meanwhile, nil: nobody looks.
	watch startWatch
	// rival is where the TCP throughput is that this one's is compared with: of
	// the same reader, unwatched.
	rival *bed
	// unavailable says why it cannot be measured.
	unavailable string
}

// settleConfig is the configuration that not every build knows.
const (
	settleKey    = "settleAfterPackets"
	settleConfig = settleKey + ": 16\n"
)

// readerOf is the command of a program that reads the queue.
func readerOf(bin, name string, more ...string) []string {
	return append([]string{
		program(bin, name), fmt.Sprint(queueNumber), fmt.Sprint(queueLength),
		fmt.Sprint(copyRange), fmt.Sprint(receiveBuffer),
	}, more...)
}

// contenders returns the rows in the report's order.
func contenders(o *options, bare, queued, settled *bed) ([]*contender, error) {
	program := func(name string, more ...string) []string { return readerOf(o.bin, name, more...) }
	all := []*contender{
		{name: report.None, label: "no queue", bed: bare},
		{
			name: report.GoNFQ, label: "go-nfqueue v2.1.0, callback", bed: queued,
			argv: program("gonfqueue"),
		},
		{
			name: report.Classic, label: "C, libnetfilter_queue, classic loop", bed: queued,
			argv: program("classic"),
		},
		{
			name: report.Vectored, label: "C, recvmmsg, a verdict a packet", bed: queued,
			argv: program("mmsg"),
		},
		{
			name: report.Batch, label: "C, recvmmsg, batch verdict", bed: queued,
			argv: program("mmsg", "batch"),
		},
		{name: report.Full, label: "nsqueued", bed: queued},
		{
			name: report.Watched, label: "nsqueued, watched, captured, scraped", bed: queued,
			watch: startWatchers, rival: queued,
		},
		{
			name: report.Page, label: "nsqueued, shown by nsqueuectl ui", bed: queued,
			watch: startPage, rival: queued,
		},
		{
			name: report.Header, label: "nsqueued, 128 bytes copied", bed: queued,
			config: "queue:\n  copyRange: 128\n",
		},
		{
			name: report.Settled, label: "nsqueued, flows settled after 16", bed: settled,
			config: settleConfig, rival: bare,
		},
	}
	if len(o.only) == 0 {
		return all, nil
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(all, func(c *contender) bool { return c.name == name }) {
			return nil, fmt.Errorf("no contender %q: want some of %s", name, names(all))
		}
	}
	return slices.DeleteFunc(all, func(c *contender) bool {
		return !slices.Contains(o.only, c.name)
	}), nil
}

func names(all []*contender) string {
	var list []string
	for _, c := range all {
		list = append(list, c.name)
	}
	return strings.Join(list, ",")
}

// reader is a contender at work.
type reader struct {
	pid    int // 0 where there is none
	beside int // of a process that works for it, 0 where there is none
	stop   func() error
	// unwatched runs a function while no client looks; nil if none ever does.
	unwatched func(func() error) error
}

// cpuDuring returns how much processor time the reader takes while fn runs.
func (r *reader) cpuDuring(fn func() error) (sum time.Duration, err error) {
	if r.beside == 0 {
		return cpuDuring(r.pid, fn)
	}
	beside, err := cpuDuring(r.beside, func() error {
		sum, err = cpuDuring(r.pid, fn)
		return err
	})
	return sum + beside, err
}

// start returns when the contender serves the queue.
func (c *contender) start(ctx context.Context) (*reader, error) {
	switch {
	case !c.bed.queued:
		return &reader{stop: func() error { return nil }}, nil
	case c.argv != nil:
		return startProgram(c.bed.pod, c.argv)
	}
	d, err := c.bed.judge(c.config, c.rules)
	if err != nil {
		return nil, err
	}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	list, err := d.Client.List(ctx)
	if err == nil && (len(list.Attachments) != 1 || list.Attachments[0].State != api.Active) {
		err = fmt.Errorf("nsqueued serves %d pods, want the one it left armed\n%s",
			len(list.Attachments), d.Log.String())
	}
	if err != nil {
		return nil, errors.Join(err, d.Kill())
	}
	if c.watch != nil {
		return startWatched(ctx, c.watch, c.bed.options.bin, d)
	}
	return &reader{pid: d.PID(), stop: d.Stop}, nil
}

// startWatched has a daemon watched.
func startWatched(
	ctx context.Context, start startWatch, bin string, d *chain.Daemon,
) (*reader, error) {
	w, err := start(ctx, bin, d)
	if err != nil {
		return nil, errors.Join(err, d.Kill())
	}
	return &reader{
		pid:  d.PID(),
		stop: func() error { return errors.Join(w.stop(), d.Stop()) },
		unwatched: func(do func() error) error {
			if err := errors.Join(w.stop(), do()); err != nil {
				return err
			}
			again, err := start(ctx, bin, d)
			if err == nil {
				w = again
			}
			return err
		},
	}, nil
}

// startProgram starts a reader that prints a line when it is ready.
func startProgram(ns *nstest.NetNS, argv []string) (*reader, error) {
	cmd := ns.Command(argv[0], argv[1:]...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start reader: %w", err)
	}
	// A reader that ends, ends its output, too.
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) || strings.TrimSpace(line) != "ready" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start reader %s: %q: %w: %s", argv[0], line, err, log.String())
	}
	return &reader{pid: cmd.Process.Pid, stop: func() error {
		if err := cmd.Process.Kill(); err != nil {
			return fmt.Errorf("reader %s: %w: %s", argv[0], err, log.String())
		}
		_ = cmd.Wait() // says that it was killed
		return nil
	}}, nil
}
