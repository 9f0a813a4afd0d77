// SPDX-License-Identifier: Apache-2.0

// Demo shows on one machine what happens to a pod whose packets are sent to a
// queue that only the host's netns reads, how nsqueue ends it, what rules do then, and
// how a program that reads a queue by itself reads each pod. It runs real plugins, real
// rules, real pings and real TLS in a throw-away node, of which nothing is left however
// the demo ends, and exits non-zero if a step does not show what it should.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func main() {
	if err := nstest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	bin := flag.String("bin", "bin", "`directory` of the programs")
	conflist := flag.String("conflist", "conflist/10-flannel.conflist", "flannel's conflist `file`")
	hook := flag.String("hook", "auto", "nsqueued's hook")
	flag.Parse()

	d := &demo{screen: newScreen(os.Stdout), bin: *bin, conflist: *conflist, hook: *hook}
	if err := d.run(context.Background()); err != nil {
		d.screen.fail(err)
		os.Exit(1)
	}
}

// demo is what the steps share.
type demo struct {
	screen              *screen
	bin, conflist, hook string

	network *chain.Network
	daemon  *chain.Daemon
	// pods are busybox1, which is pinged, and busybox2.
	pods [2]*chain.Pod
}

func (d *demo) run(ctx context.Context) error {
	started := time.Now()
	d.screen.say("The demo runs in network, mount and PID namespaces of its own.\n" +
		"The machine is not changed.")
	for i, step := range []func(context.Context) error{
		d.stockPodsPing, d.hostReaderSeesNothing, d.bypassPassesUninspected,
		d.nsqueueSeesAll, d.rulesDecide, d.programReads, d.nothingStays,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d does not show what it should: %w", i+1, err)
		}
	}
	d.screen.say("\nAll seven steps showed what they should (%.1f s).",
		time.Since(started).Seconds())
	return nil
}

// createPods makes busybox1 and busybox2 in a network.
func (d *demo) createPods(ctx context.Context, config chain.Config) error {
	config.Conflist, config.Bin, config.Stderr = d.conflist, d.bin, &chain.Log{}
	var err error
	if d.network, err = chain.Open(config); err != nil {
		return err
	}
	d.screen.note("conflist %s: %s (cniVersion %s)", d.network.Name(), d.network.Types(),
		d.network.Version())
	for i, name := range []string{"busybox1", "busybox2"} {
		started := time.Now()
		if d.pods[i], err = d.network.NewPod(ctx, name); err != nil {
			return err
		}
		d.screen.note("ADD %s: %s in %s (%d ms)", name, d.pods[i].IPv4, d.pods[i].NetNS.Path(),
			time.Since(started).Milliseconds())
	}
	return nil
}

func (d *demo) deletePods(ctx context.Context) error {
	for _, p := range d.pods {
		if err := p.Remove(ctx); err != nil {
			return err
		}
		d.screen.note("DEL %s", p.Name)
	}
	return nil
}

// ping pings a pod from another and returns the output. That it fails when
// nothing comes back is part of the show.
func (d *demo) ping(from, to *chain.Pod) string {
	out, _ := d.screen.run("nsenter", "--net="+from.NetNS.Path(),
		"busybox", "ping", "-c", "2", "-W", "1", to.IPv4.String())
	return out
}

func (d *demo) ctl() string { return filepath.Join(d.bin, "nsqueuectl") }

// errIf returns an error when a step did not show what it should.
func errIf(bad bool, format string, args ...any) error {
	if !bad {
		return nil
	}
	return fmt.Errorf(format, args...)
}
