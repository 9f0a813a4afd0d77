// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// seeded is the interface of pods that have a program.
const seeded = "eth1"

// measureProgramAttach times the start and the end of pods with a program each, next to
// pods without one.
func measureProgramAttach(ctx context.Context, o *options, r *report.Report) error {
	progress("inspectors: %d pods with a program each", o.size.programPods)
	dir := "/run/bench/programs"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c, err := daemonConfig(dir, programConfigOf(o.bin, `{when: pod.interface == "`+seeded+`"}`))
	if err != nil {
		return err
	}
	c.Bin, c.Hook = o.bin, o.hook
	b := &bench{
		plugin: filepath.Join(o.bin, "nsqueue"), daemon: chain.NewDaemon(c),
		times: make(map[string][]time.Duration),
	}
	if err := b.daemon.Start(ctx); err != nil {
		return err
	}
	for i := range o.size.programPods {
		if err := b.startPods(i); err != nil {
			return errors.Join(err, b.daemon.Kill())
		}
	}
	if err := b.endPods(o.size.programPods); err != nil {
		return errors.Join(err, b.daemon.Kill())
	}
	for _, name := range []string{
		report.ProgramlessAdd, report.ProgramAdd, report.ProgramlessDel, report.ProgramDel,
	} {
		r.Programs = append(r.Programs, timingOf(name, b.times[name]))
	}
	return b.daemon.Stop()
}

// startPods starts a pod without a program, and one with it.
func (b *bench) startPods(i int) error {
	for ifname, name := range map[string]string{
		"eth0": report.ProgramlessAdd, seeded: report.ProgramAdd,
	} {
		ns, err := nstest.Create("bench")
		if err != nil {
			return err
		}
		k := api.Key{ContainerID: fmt.Sprintf("bench-%s-%d", ifname, i), Ifname: ifname}
		b.pods = append(b.pods, benchPod{k, ns})
		if err := b.take(name, func() error { return b.exec("ADD", k, ns) }); err != nil {
			return err
		}
	}
	return nil
}

// endPods ends all, of which so many have a program.
func (b *bench) endPods(programs int) error {
	list, err := b.daemon.Client.List(context.Background())
	if err != nil {
		return err
	}
	ready := 0
	for _, a := range list.Attachments {
		for _, p := range a.Programs {
			if p.Ready {
				ready++
			}
		}
	}
	if ready != programs {
		return fmt.Errorf("%d programs read, want %d", ready, programs)
	}
	for _, p := range b.pods {
		name := report.ProgramlessDel
		if p.key.Ifname == seeded {
			name = report.ProgramDel
		}
		if err := b.take(name, func() error { return b.exec("DEL", p.key, p.ns) }); err != nil {
			return err
		}
		if err := p.ns.Remove(); err != nil {
			return err
		}
	}
	return nil
}
