// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// canaries is how many netns tell when the kernel has freed them.
const canaries = 10

// scale is many pods on one daemon.
type scale struct {
	options *options
	daemon  *chain.Daemon
	pods    []*nstest.NetNS
	freed   []func() bool
	result  *report.Scale
}

// measureScale attaches many pods, looks at the idle daemon, detaches them all
// and looks for what is left.
func measureScale(ctx context.Context, o *options, r *report.Report) error {
	progress("scale: %d pods", o.size.scalePods)
	s := &scale{
		options: o,
		daemon:  chain.NewDaemon(chain.DaemonConfig{Bin: o.bin, Hook: o.hook, LogLevel: "warn"}),
		result:  &report.Scale{Pods: o.size.scalePods, FewPods: o.size.fewPods},
	}
	if err := s.create(); err != nil {
		return err
	}
	if err := s.daemon.Start(ctx); err != nil {
		return err
	}
	if err := s.attachAndDetach(ctx); err != nil {
		return errors.Join(err, s.daemon.Kill())
	}
	r.Scale = s.result
	return s.daemon.Stop()
}

func (s *scale) create() error {
	for i := range s.options.size.scalePods {
		ns, err := nstest.Create("scale")
		if err != nil {
			return err
		}
		s.pods = append(s.pods, ns)
		if i >= canaries {
			continue
		}
		freed, err := ns.Canary(fmt.Sprintf("canary%d", i))
		if err != nil {
			return err
		}
		s.freed = append(s.freed, freed)
	}
	return nil
}

func (s *scale) attachAndDetach(ctx context.Context) error {
	before, err := chain.UsageOf(s.daemon.PID())
	if err != nil {
		return err
	}
	s.result.RSSEmpty = before.ResidentKiB
	few := s.options.size.fewPods
	times, err := s.attach(ctx, 0, few)
	if err != nil {
		return err
	}
	if s.result.IdleFew, err = s.idle(ctx); err != nil {
		return err
	}
	more, err := s.attach(ctx, few, len(s.pods))
	if err != nil {
		return err
	}
	times = append(times, more...)
	if s.result.IdleAll, err = s.idle(ctx); err != nil {
		return err
	}
	s.result.Early, s.result.Late = median(times[5:15]), median(times[len(times)-10:])
	s.result.Attach = timingOf(fmt.Sprintf("API attach call, %d pods", len(s.pods)), times)
	if err := s.detach(ctx); err != nil {
		return err
	}
	return s.leftovers(before)
}

func (s *scale) attach(ctx context.Context, from, to int) ([]time.Duration, error) {
	var times []time.Duration
	for i := from; i < to; i++ {
		f, err := os.Open(s.pods[i].Path())
		if err != nil {
			return nil, err
		}
		took, err := timed(func() error {
			_, err := s.daemon.Client.Attach(ctx, api.AttachRequest{
				Key: key(i), Origin: api.OriginManual, NetnsPath: s.pods[i].Path(),
			}, f)
			return err
		})
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("attach pod %d: %w", i+1, err)
		}
		times = append(times, took)
	}
	return times, nil
}

// idle watches the daemon while nothing happens.
func (s *scale) idle(ctx context.Context) (report.Idle, error) {
	d := s.options.size.idle
	cpu, err := cpuDuring(s.daemon.PID(), func() error { return pass(ctx, d) })
	if err != nil {
		return report.Idle{}, err
	}
	u, err := chain.UsageOf(s.daemon.PID())
	progress("scale: idle, %d KiB, %v of processor time in %v", u.ResidentKiB, cpu, d)
	return report.Idle{RSSKiB: u.ResidentKiB, CPUPercent: 100 * cpu.Seconds() / d.Seconds()}, err
}

func (s *scale) detach(ctx context.Context) error {
	var times []time.Duration
	for i := range s.pods {
		took, err := timed(func() error { return s.daemon.Client.Detach(ctx, key(i)) })
		if err != nil {
			return fmt.Errorf("detach pod %d: %w", i+1, err)
		}
		times = append(times, took)
	}
	s.result.Detach = timingOf(fmt.Sprintf("API detach call, %d pods", len(s.pods)), times)
	return nil
}

// leftovers looks for rules in the netns, for descriptors of the daemon, and
// for netns that the kernel cannot free.
func (s *scale) leftovers(before chain.Usage) error {
	for i, ns := range s.pods {
		if i < canaries {
			out, err := ns.Command("nft", "list", "tables").CombinedOutput()
			if err != nil {
				return fmt.Errorf("list tables: %w: %s", err, out)
			}
			if table := strings.TrimSpace(string(out)); table != "" {
				s.result.Left = append(s.result.Left, table)
			}
		}
		if err := ns.Remove(); err != nil {
			return err
		}
	}
	var after chain.Usage
	var err error
	nstest.Poll(5*time.Second, func() bool {
		after, err = chain.UsageOf(s.daemon.PID())
		return err != nil || len(after.HeldSince(before)) == 0
	})
	s.result.RSSAfter = after.ResidentKiB
	for _, f := range after.HeldSince(before) {
		s.result.Left = append(s.result.Left, "descriptor "+f)
	}
	for i, freed := range s.freed {
		if !nstest.Poll(10*time.Second, freed) {
			s.result.Left = append(s.result.Left, fmt.Sprintf("netns %d", i+1))
		}
	}
	return err
}

// median returns the one of the times in microseconds.
func median(times []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return float64(sorted[len(sorted)/2].Nanoseconds()) / 1000
}

func timingOf(name string, times []time.Duration) report.Timing {
	sorted := slices.Sorted(slices.Values(times))
	return report.Timing{
		Name: name, P50: percentile(sorted, 50), P99: percentile(sorted, 99),
		Max: sorted[len(sorted)-1].Microseconds(),
	}
}
