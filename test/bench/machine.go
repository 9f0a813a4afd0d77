// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// describeMachine notes where and with what the run is made.
func describeMachine(ctx context.Context, o *options, m *report.Machine) error {
	m.Processors, m.Go = runtime.NumCPU(), runtime.Version()
	m.CPU = field("/proc/cpuinfo", "model name")
	_, _ = fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &m.MemoryMiB)
	m.MemoryMiB /= 1024
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	m.Command, m.LoadBefore = o.command, loadAverage()
	m.Date = time.Now().UTC().Format(time.DateOnly)

	d := chain.NewDaemon(chain.DaemonConfig{Bin: o.bin, Hook: o.hook, LogLevel: "warn"})
	if err := d.Start(ctx); err != nil {
		return err
	}
	status, err := d.Client.Status(ctx)
	if err != nil {
		return errors.Join(err, d.Kill())
	}
	m.Version = status.Version
	m.Hook = status.Hook.Kind + " (" + status.Hook.Detail + ")"
	return d.Stop()
}

// field returns the value of the first "key : value" line of a file.
func field(file, key string) string {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		if strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// cpuTime returns the processor time of all threads of a process so far, user
// and system, those that have ended included.
func cpuTime(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): the complement of the PID, and CPUCLOCK_SCHED.
	const cpuClockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &t); err != nil {
		return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// cpuDuring returns how much processor time a process takes while fn runs.
func cpuDuring(pid int, fn func() error) (time.Duration, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := cpuTime(pid)
	return after - before, err
}

// pass returns after a time in which something is watched.
func pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queueStat is what the kernel tells of a queue.
type queueStat struct {
	queueDropped, userDropped, sequence int64
}

// statQueue reads the only queue of the netns.
func statQueue(ns *nstest.NetNS) (queueStat, error) {
	var s queueStat
	err := ns.Try(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		if err != nil {
			return err
		}
		var number, port, waiting, mode, copyRange int64
		_, err = fmt.Fscan(bytes.NewReader(b), &number, &port, &waiting, &mode, &copyRange,
			&s.queueDropped, &s.userDropped, &s.sequence)
		if err != nil {
			return fmt.Errorf("read queue of the netns: %w", err)
		}
		return nil
	})
	return s, err
}
