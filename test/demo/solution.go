// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// wanted is how many packets two pings between two inspected pods are: each
// request and each reply leaves one pod and enters the other.
const wanted = 2 * 4

// patience is how long the demo waits for what is expected at once: only for what hangs.
const patience = time.Minute

// nsqueueSeesAll is step 4: the same pods with nsqueue in the chain.
func (d *demo) nsqueueSeesAll(ctx context.Context) error {
	d.screen.title(4, "nsqueued runs, nsqueue is in the CNI chain, and the pods are made again")
	if err := d.deletePods(ctx); err != nil {
		return err
	}
	d.daemon = chain.NewDaemon(chain.DaemonConfig{Bin: d.bin, Hook: d.hook})
	if err := d.daemon.Start(ctx); err != nil {
		return err
	}
	d.screen.note("nsqueued runs (PID %d)", d.daemon.PID())
	if err := d.createPods(ctx, chain.Config{}); err != nil {
		return err
	}
	if err := d.watchPings(); err != nil {
		return err
	}
	out, err := d.screen.run(d.ctl(), "list")
	if err != nil {
		return err
	}
	for _, p := range d.pods {
		err := errIf(!strings.Contains(out, p.Name), "the list lacks %s", p.Name)
		if err != nil {
			return err
		}
	}
	if err := d.compareCounters(ctx); err != nil {
		return err
	}
	d.screen.shown("The pods reach each other, and nsqueued inspected every packet of both.")
	return nil
}

// watchPings pings while nsqueuectl watch prints what it sees.
func (d *demo) watchPings() error {
	args := []string{"watch"}
	cmd := exec.Command(d.ctl(), args...)
	d.screen.say("   $ %s &", commandLine(d.ctl(), args))
	var watching atomic.Bool
	var packets atomic.Int64
	ended := make(chan error, 1)
	go func() {
		ended <- d.screen.follow(cmd, func(line string) {
			switch {
			case strings.HasPrefix(line, "watching"):
				watching.Store(true)
			case strings.HasPrefix(line, "packet: "):
				packets.Add(1)
			}
		})
	}()
	if !nstest.Poll(patience, watching.Load) {
		return errors.New("nsqueuectl watch does not begin")
	}
	out := d.ping(d.pods[1], d.pods[0])
	complete := nstest.Poll(patience, func() bool { return packets.Load() >= wanted })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("end nsqueuectl watch: %w", err)
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("nsqueuectl watch: %w", err)
	}
	if err := errIf(!strings.Contains(out, allArrived), "the ping is lost"); err != nil {
		return err
	}
	return errIf(!complete, "nsqueuectl watch printed %d packets, want %d", packets.Load(), wanted)
}

// compareCounters checks what the list showed.
func (d *demo) compareCounters(ctx context.Context) error {
	list, err := d.daemon.Client.List(ctx)
	if err != nil {
		return err
	}
	if err := errIf(len(list.Attachments) != len(d.pods), "%d attachments, want %d",
		len(list.Attachments), len(d.pods)); err != nil {
		return err
	}
	for _, a := range list.Attachments {
		n := a.Counters.Packets
		err := errIf(n < wanted/2, "%s counted %d packets, want %d or more", a.Pod, n, wanted/2)
		if err != nil {
			return err
		}
	}
	return nil
}

// nothingStays is step 7: the pods go, and everything with them.
func (d *demo) nothingStays(ctx context.Context) error {
	d.screen.title(7, "The pods are deleted")
	var freed [2]func() bool
	for i, p := range d.pods {
		var err error
		if freed[i], err = p.NetNS.Canary(fmt.Sprintf("canary%d", i)); err != nil {
			return err
		}
	}
	if err := d.deletePods(ctx); err != nil {
		return err
	}
	out, err := d.screen.run(d.ctl(), "list")
	if err != nil {
		return err
	}
	if err := errIf(strings.Contains(out, "busybox"), "the list still has a pod"); err != nil {
		return err
	}
	if out, err = d.screen.run("ls", "-A", "/run/netns"); err != nil {
		return err
	}
	if err := errIf(out != "", "a netns is left"); err != nil {
		return err
	}
	gone := nstest.Poll(patience, func() bool { return freed[0]() && freed[1]() })
	if err := errIf(!gone, "the kernel still has a netns: some process holds it"); err != nil {
		return err
	}
	if err := d.daemon.Stop(); err != nil {
		return err
	}
	d.screen.shown("The list is empty, and the kernel has freed both netns.")
	return nil
}
