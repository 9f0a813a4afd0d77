// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What is measured, in the order of the report.
const (
	pauseNone    = "nothing happens"
	pauseRestart = "nsqueued is restarted by its supervisor"
)

const (
	pausePods = 3
	pauseRate = 10_000
	// pauseAfter is how long datagrams go on after each event.
	pauseAfter = 300 * time.Millisecond
	// pauseLimit only ends what hangs.
	pauseLimit = time.Minute
)

// pauses is a supervisor in a container, and pods that get datagrams.
type pauses struct {
	options *options
	dir     string
	client  *api.Client
	beds    []*bed
	idle    []*nstest.NetNS
	active  *chain.Container

	flows []*load.Flow
	times map[string][]time.Duration
}

// measurePauses takes the longest time in which nothing comes to a pod while its
// nsqueued is followed by another one.
func measurePauses(ctx context.Context, o *options, r *report.Report) error {
	progress("pauses: %d pods at %d packets/s, %d idle ones beside, %d events each",
		pausePods, pauseRate, o.size.idlePods, o.size.pauses)
	p := &pauses{
		options: o, dir: "/run/bench/pauses", times: make(map[string][]time.Duration),
	}
	p.client = api.NewClient(filepath.Join(p.dir, "nsqueued.sock"))
	if err := p.open(ctx); err != nil {
		return errors.Join(err, p.close(ctx))
	}
	lost, err := p.underLoad(func() error { return p.measure(ctx) })
	if err := errors.Join(err, p.close(ctx)); err != nil {
		return err
	}
	r.Pauses = &report.Pauses{Lost: lost}
	for _, name := range []string{pauseNone, pauseRestart, report.PauseHandOver} {
		r.Pauses.Times = append(r.Pauses.Times, timingOf(name, p.times[name]))
	}
	return nil
}

// pausesConfig has room for what comes while the machine stands still.
const pausesConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
socket: %[1]s/nsqueued.sock
stateDir: %[1]s
hook: %[2]s
failurePolicy: Fail
queue: {length: 60000, receiveBuffer: 67108864, receiveBufferTotal: 68719476736}
`

// open starts the supervisor and attaches all pods.
func (p *pauses) open(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf(pausesConfig, p.dir, p.options.hook)
	if err := os.WriteFile(p.configFile(), []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if p.active, err = p.enter(); err != nil {
		return err
	}
	for i := range pausePods {
		b, err := newBed(p.options, fmt.Sprintf("pause%d", i))
		if err != nil {
			return err
		}
		p.beds = append(p.beds, b)
		if err := p.attach(ctx, i, b.pod); err != nil {
			return err
		}
	}
	for i := range p.options.size.idlePods {
		ns, err := nstest.Create("pause-idle")
		if err != nil {
			return err
		}
		p.idle = append(p.idle, ns)
		if err := p.attach(ctx, pausePods+i, ns); err != nil {
			return err
		}
	}
	return nil
}

func (p *pauses) configFile() string { return filepath.Join(p.dir, "nsqueued.yaml") }

// enter starts a supervisor in a container and returns when it is the active one.
func (p *pauses) enter() (*chain.Container, error) {
	c, err := chain.StartContainer(chain.SupervisorConfig{
		Program:    filepath.Join(p.options.bin, "nsqueued"),
		RuntimeDir: filepath.Join(p.dir, "own"),
		Flags: []string{
			"--handover-dir", p.dir, "--instance", "bench/nsqueue", "--max-deaths", "0",
			"--death-window", "100ms",
		},
		Args: []string{"--config", p.configFile(), "--log-level", "warn"},
	})
	if err != nil {
		return nil, err
	}
	active := nstest.Poll(pauseLimit, func() bool {
		return c.Ended() || c.Role() == "active" && c.Log.Contains("daemon ready")
	})
	if c.Ended() || !active {
		return nil, errors.Join(fmt.Errorf("the supervisor is %q, want active\n%s", c.Role(),
			c.Log.String()), c.Kill())
	}
	return c, nil
}

func (p *pauses) attach(ctx context.Context, i int, ns *nstest.NetNS) error {
	f, err := os.Open(ns.Path())
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = p.client.Attach(ctx, api.AttachRequest{
		Key: key(i), Origin: api.OriginManual, NetnsPath: ns.Path(),
	}, f)
	return err
}

// close ends everything.
func (p *pauses) close(ctx context.Context) error {
	var errs []error
	if p.active != nil {
		_, err := p.client.DetachAll(ctx)
		errs = append(errs, err, p.active.Kill())
	}
	for _, b := range p.beds {
		errs = append(errs, b.remove(ctx))
	}
	for _, ns := range p.idle {
		errs = append(errs, ns.Remove())
	}
	return errors.Join(errs...)
}

// underLoad sends to all busy pods meanwhile, and returns how many datagrams were lost.
func (p *pauses) underLoad(during func() error) (lost int, err error) {
	var running sync.WaitGroup
	errs := make(chan error, 2*len(p.beds))
	for _, b := range p.beds {
		from, to, err := b.sockets()
		if err != nil {
			return 0, err
		}
		defer from.Close()
		defer to.Close()
		f := load.NewFlow(from, to, pauseRate)
		p.flows = append(p.flows, f)
		running.Go(func() { errs <- f.Send() })
		running.Go(func() { errs <- f.Receive() })
	}
	err = during()
	for _, f := range p.flows {
		f.Stop()
	}
	running.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	for _, f := range p.flows {
		r := f.Result()
		lost += r.Lost
	}
	return lost, err
}

// measure lets things happen again and again, in turns.
func (p *pauses) measure(ctx context.Context) error {
	for range p.options.size.pauses {
		for name, happen := range map[string]func(context.Context) error{
			pauseNone:            func(ctx context.Context) error { return pass(ctx, pauseAfter) },
			pauseRestart:         p.restart,
			report.PauseHandOver: p.handOver,
		} {
			p.gaps()
			if err := happen(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := pass(ctx, pauseAfter); err != nil {
				return err
			}
			p.times[name] = append(p.times[name], p.gaps()...)
		}
	}
	return nil
}

// gaps returns the longest times in which nothing came to a pod since the last call.
func (p *pauses) gaps() []time.Duration {
	var gaps []time.Duration
	for _, f := range p.flows {
		gaps = append(gaps, f.Gap())
	}
	return gaps
}

// restart has the daemon stop in order, and returns when the next one serves.
func (p *pauses) restart(context.Context) error {
	pid, err := p.active.Daemon()
	if err != nil {
		return err
	}
	p.active.Log.Reset()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	if !nstest.Poll(pauseLimit, func() bool { return p.active.Log.Contains("daemon ready") }) {
		return fmt.Errorf("no daemon follows\n%s", p.active.Log.String())
	}
	return nil
}

// handOver has another supervisor take over, and ends the one before.
func (p *pauses) handOver(context.Context) error {
	next, err := p.enter()
	if err != nil {
		return err
	}
	before := p.active
	p.active = next
	return before.Stop()
}
