// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/nsqueue/nsqueue/test/marks"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	programDir    = "/run/demo"
	programConfig = "/run/demo/program.yaml"
)

const programDaemonConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
inspectors:
- name: seed
  pods: {namespaces: ["*"]}
  exec: {command: [` + programDir + `/a.out, -m, "0x10"], queue: 80}
`

// programReads is step 6: a program that was written for one machine reads each pod.
func (d *demo) programReads(ctx context.Context) error {
	d.screen.title(6, "a.out reads queue 80 by libnetfilter_queue, and knows nothing of netns")
	if _, err := marks.Build(programDir); err != nil {
		return err
	}
	err := os.WriteFile(programConfig, []byte(programDaemonConfig), 0o644)
	if err == nil {
		err = d.restart(ctx, programConfig)
	}
	if err != nil {
		return err
	}
	if err := d.awaitPrograms(ctx); err != nil {
		return err
	}
	if _, err := d.screen.run("tail", "-n", "4", programConfig); err != nil {
		return err
	}
	out := d.ping(d.pods[1], d.pods[0])
	if err := errIf(!strings.Contains(out, allArrived), "the ping is lost"); err != nil {
		return err
	}
	for _, p := range d.pods {
		if err := d.showPrinted(p.Name); err != nil {
			return err
		}
	}
	d.screen.shown("nsqueued has started one a.out in each pod's netns, and each has seen its\n" +
		"   pod's packets.")
	return nil
}

// awaitPrograms waits until the program of each pod reads.
func (d *demo) awaitPrograms(ctx context.Context) error {
	read := func() bool {
		list, err := d.daemon.Client.List(ctx)
		if err != nil {
			return false
		}
		n := 0
		for _, a := range list.Attachments {
			if len(a.Programs) == 1 && a.Programs[0].Ready {
				n++
			}
		}
		return n == len(d.pods)
	}
	if !nstest.Poll(patience, read) {
		return fmt.Errorf("a.out does not read\n%s", d.daemon.Log.String())
	}
	d.screen.note("a.out runs in %s and in %s", d.pods[0].Name, d.pods[1].Name)
	return nil
}

// showPrinted shows what the program of a pod has printed of the pings: two packets each
// way.
func (d *demo) showPrinted(pod string) error {
	line := regexp.MustCompile(`pod=default/` + pod + ` line="(packet: [^"]*)"`)
	var printed [][]string
	complete := func() bool {
		printed = line.FindAllStringSubmatch(d.daemon.Log.String(), -1)
		return len(printed) >= wanted/2
	}
	if !nstest.Poll(patience, complete) {
		return fmt.Errorf("a.out of %s printed %d lines\n%s", pod, len(printed),
			d.daemon.Log.String())
	}
	for _, p := range printed[:wanted/2] {
		d.screen.say("   %s: %s", pod, p[1])
	}
	return nil
}
