// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What is measured, in the order of the report.
const (
	pluginVersion = "plugin VERSION, whole process (starts and ends, nothing else)"
	apiStatus     = "API status call (a request over the socket, nothing else)"
	apiAttach     = "API attach call, from request to answer"
	apiDetach     = "API detach call, from request to answer"
)

// bench collects times by what was measured.
type bench struct {
	plugin string
	daemon *chain.Daemon
	times  map[string][]time.Duration
	pods   []benchPod
}

// benchPod is a pod of a benchmark.
type benchPod struct {
	key api.Key
	ns  *nstest.NetNS
}

// measureAttach times every call of a pod's life: the daemon's alone, and the
// plugin's whole process, next to a VERSION call of the same binary, which does
// nothing but start.
func measureAttach(ctx context.Context, o *options, r *report.Report) error {
	progress("attach: %d pods", o.size.attachPods)
	b := &bench{
		plugin: filepath.Join(o.bin, "nsqueue"),
		daemon: chain.NewDaemon(chain.DaemonConfig{Bin: o.bin, Hook: o.hook, LogLevel: "warn"}),
	}
	if err := b.daemon.Start(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx, o.size.attachPods); err != nil {
		return errors.Join(err, b.daemon.Kill())
	}
	r.Attach = b.results()
	return b.daemon.Stop()
}

// measure makes the netns and calls everything for each.
func (b *bench) measure(ctx context.Context, pods int) error {
	b.times = make(map[string][]time.Duration)
	all := make([]*nstest.NetNS, pods)
	for i := range all {
		var err error
		if all[i], err = nstest.Create("bench"); err != nil {
			return err
		}
	}
	for _, phase := range []func(context.Context, int, *nstest.NetNS) error{
		b.add, b.del, b.attach, b.detach,
	} {
		for i, ns := range all {
			if err := phase(ctx, i, ns); err != nil {
				return err
			}
		}
	}
	for _, ns := range all {
		if err := ns.Remove(); err != nil {
			return err
		}
	}
	return nil
}

// take measures one call.
func (b *bench) take(name string, call func() error) error {
	took, err := timed(call)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.times[name] = append(b.times[name], took)
	return nil
}

func (b *bench) add(_ context.Context, i int, ns *nstest.NetNS) error {
	return errors.Join(
		b.take(pluginVersion, func() error { return b.exec("VERSION", key(i), ns) }),
		b.take(report.PluginAdd, func() error { return b.exec("ADD", key(i), ns) }),
	)
}

func (b *bench) del(_ context.Context, i int, ns *nstest.NetNS) error {
	return b.take(report.PluginDel, func() error { return b.exec("DEL", key(i), ns) })
}

func (b *bench) attach(ctx context.Context, i int, ns *nstest.NetNS) error {
	f, err := os.Open(ns.Path())
	if err != nil {
		return err
	}
	defer f.Close()
	req := api.AttachRequest{Key: key(i), Origin: api.OriginManual, NetnsPath: ns.Path()}
	return errors.Join(
		b.take(apiStatus, func() error {
			_, err := b.daemon.Client.Status(ctx)
			return err
		}),
		b.take(apiAttach, func() error {
			_, err := b.daemon.Client.Attach(ctx, req, f)
			return err
		}),
	)
}

func (b *bench) detach(ctx context.Context, i int, _ *nstest.NetNS) error {
	return b.take(apiDetach, func() error { return b.daemon.Client.Detach(ctx, key(i)) })
}

func key(i int) api.Key { return api.Key{ContainerID: fmt.Sprintf("bench-%d", i), Ifname: "eth0"} }

// exec runs the plugin as a runtime does.
func (b *bench) exec(command string, k api.Key, ns *nstest.NetNS) error {
	config, err := json.Marshal(map[string]any{
		"cniVersion": "0.3.1", "name": "bench", "type": chain.PluginType,
		"socket": b.daemon.Socket(), "failurePolicy": api.Fail,
		"prevResult": map[string]any{"cniVersion": "0.3.1", "ips": []any{}},
	})
	if err != nil {
		return err
	}
	cmd := exec.Command(b.plugin)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + k.ContainerID, "CNI_IFNAME=" + k.Ifname,
		"CNI_NETNS=" + ns.Path(), "CNI_PATH=/nonexistent", "PATH=" + os.Getenv("PATH"),
	}
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(config), &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, out.Bytes())
	}
	return nil
}

func (b *bench) results() []report.Timing {
	var all []report.Timing
	for _, name := range []string{
		pluginVersion, report.PluginAdd, report.PluginDel, apiStatus, apiAttach, apiDetach,
	} {
		if t := b.times[name]; len(t) > 0 {
			all = append(all, timingOf(name, t))
		}
	}
	return all
}

// timed returns how long a call took, and its error.
func timed(call func() error) (time.Duration, error) {
	started := time.Now()
	err := call()
	return time.Since(started), err
}

// percentile returns the smallest time that p percent of the sorted times do
// not exceed.
func percentile(sorted []time.Duration, p int) int64 {
	return sorted[(len(sorted)*p+99)/100-1].Microseconds()
}
