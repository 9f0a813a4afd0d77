// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// stop ends the daemon in order, for another one to run.
func (d *daemon) stop() {
	d.t.Helper()
	nstest.Must(d.t, d.Suspend())
	nstest.Must(d.t, d.Registry.Close())
	nstest.Must(d.t, d.store.Close())
}

func (d *daemon) wantGroups(n int) {
	d.t.Helper()
	groups, err := d.kept.Groups()
	nstest.Must(d.t, err)
	if len(groups) != n {
		d.t.Errorf("groups %v, want %d", groups, n)
	}
}

// A program that is not recorded is ended, and does not keep its queue from another one.
func TestProgramIsNotRecorded(t *testing.T) {
	for _, direct := range []bool{false, true} {
		d := withProgram(t, func(c *programs.Config) { c.Direct = direct })
		pod, peer := nstest.Pair(t)
		d.attach("one", pod, api.Ignore)
		before := d.programOf().PID
		d.supervisor.Await(3)
		d.stop()
		path := filepath.Join(d.dir, "attachments", "one@eth0.json")
		var record map[string]any
		text, err := os.ReadFile(path)
		nstest.Must(t, err)
		nstest.Must(t, json.Unmarshal(text, &record))
		delete(record, "programs")
		text, err = json.Marshal(record)
		nstest.Must(t, err)
		nstest.Must(t, os.WriteFile(path, text, 0o600))
		d.run()
		p := d.awaitProgram("another process reads", func(p api.Program) bool {
			return p.Ready && p.PID != before
		})
		if p.Restarts != 0 {
			t.Errorf("%+v: want one whose first start went well", p)
		}
		d.wantGroups(1)
		if got := peer.Ping(t, pod.IPv4(), 2, reply); got != 2 {
			t.Errorf("%d of 2 pings answered", got)
		}
		nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
		d.wantNoGroups()
	}
}

// unrestored starts a daemon that does not find the pod of the one before.
func (d *daemon) unrestored(pod *nstest.NetNS) {
	d.t.Helper()
	d.stop()
	d.supervisor.Lose()
	d.supervisor, d.hidden = nil, true
	nstest.Must(d.t, unix.Mount("/dev/null", pod.Path(), "", unix.MS_BIND, ""))
	d.run()
	d.wantGroups(1) // its program goes on
	nstest.Must(d.t, unix.Unmount(pod.Path(), unix.MNT_DETACH))
}

// The program of a pod that was not restored ends when the pod does.
func TestProgramOfUnrestoredPod(t *testing.T) {
	d := withProgram(t, nil)
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.unrestored(pod)
	nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	d.wantGroups(0)
}

// A pod that is attached again has no more programs than it should.
func TestProgramOfPodThatIsAttachedAgain(t *testing.T) {
	for _, configured := range []bool{false, true} {
		d := withProgram(t, nil)
		pod, _ := nstest.Pair(t)
		d.attach("one", pod, api.Ignore)
		before := d.programOf().PID
		if !configured {
			d.programs = nil
		}
		d.unrestored(pod)
		d.attach("one", pod, api.Ignore)
		d.Verify(t.Context())
		if !configured {
			d.wantGroups(0)
			continue
		}
		d.wantGroups(1)
		if p := d.programOf(); !p.Ready || p.PID == before {
			t.Errorf("program %+v, want another process than %d", p, before)
		}
	}
}

// A program whose pod is attached again while the last one ends is let alone.
func TestProgramFollowsStubbornOne(t *testing.T) {
	d := withProgram(t, nil, "-o", "stubborn")
	pod, _ := nstest.Pair(t)
	var pids []int
	for range 3 {
		d.attach("one", pod, api.Ignore)
		p := d.programOf()
		if !p.Ready || p.Restarts != 0 || slices.Contains(pids, p.PID) {
			t.Errorf("%+v, want another process than %v, that reads", p, pids)
		}
		for _, before := range pids {
			if unix.Kill(before, 0) == nil {
				t.Errorf("process %d is still there", before)
			}
		}
		pids = append(pids, p.PID)
		nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	}
	d.wantNoGroups()
}

// A pod waits for all of its programs at the same time.
func TestPodWaitsForProgramsTogether(t *testing.T) {
	d := withProgram(t, func(c *programs.Config) {
		c.Spec.Command, c.Wait = []string{"/bin/sleep", "1000"}, 100*reply
	})
	second := *d.programs[0]
	second.Name, second.Spec.Queue, second.Wait = "second", programQueue+1, time.Millisecond
	d.programs = append(d.programs, &second)
	pod, _ := nstest.Pair(t)
	attached := make(chan error, 1)
	go func() {
		_, err := d.Attach(context.WithoutCancel(t.Context()), request("one", pod, api.Ignore), nil)
		attached <- err
	}()
	d.awaitEvent("program second does not read its queue so far")
	nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	nstest.Must(t, <-attached)
	d.wantNoGroups()
}

// Where rules begin or cease to send packets to a program, it is started, or ends; else
// nothing is written.
func TestProgramsFollowRules(t *testing.T) {
	d := withProgram(t, nil)
	d.inspector = newRuled()
	wanted := d.programs
	d.programs = nil
	d.restart()
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	inode := func() uint64 {
		var s unix.Stat_t
		nstest.Must(t, unix.Stat(filepath.Join(d.dir, "attachments", "one@eth0.json"), &s))
		return s.Ino
	}
	held, err := os.Open(filepath.Join(d.dir, "attachments", "one@eth0.json"))
	nstest.Must(t, err)
	defer held.Close() // no other file has its number
	before := inode()
	nstest.Must(t, d.Change(&inspect.Change{}))
	if inode() != before {
		t.Error("the state file was written though nothing has changed")
	}
	for range 2 {
		d.programs = wanted
		nstest.Must(t, d.Change(&inspect.Change{}))
		d.awaitProgram("the program reads", ready)
		d.programs = nil
		nstest.Must(t, d.Change(&inspect.Change{}))
		d.wantNoGroups()
	}
	if inode() == before {
		t.Error("the state file says nothing of programs")
	}
	nstest.Must(t, d.Detach(t.Context(), request("one", nil, "").Key))
	d.wantNothing(pod)
}
