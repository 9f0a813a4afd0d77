// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// frozen is a succession whose new supervisor is stopped (SIGSTOP) with its daemon while that
// takes up what the one before it has left.
type frozen struct {
	*succession

	point  string
	fresh  *chain.Container
	daemon int
	// detached is a pod that the fresh one has taken up and that was detached since.
	detached *pod
}

// TestFrozenTaker stops both processes of the new side, at each step where every way of
// handing over is tried more than once, and else at one step of each kind. The side before it
// goes on, writes, and hands over to a third one, unless the new daemon has claimed everything
// by then. Whoever is too late changes nothing.
func TestFrozenTaker(t *testing.T) {
	nstest.ShareNetnsDirectory(t)
	late := []string{"take up: claimed"}
	early := []string{"take up: queues read", "take up: attachments restored"}
	if times(t) > 1 {
		late = append(late, "take up: state directory locked")
		early = append(early, "take up: descriptors came", "attach: recorded",
			"attach: hook opened", "attach: armed")
	}
	claimed, revoked := freezeAll(t, late...), freezeAll(t, early...)
	for _, f := range revoked {
		t.Run(f.point, func(t *testing.T) {
			f.lend(t)
			f.goOnWithout()
			f.comeTooLate()
		})
	}
	for _, f := range claimed {
		t.Run(f.point, func(t *testing.T) {
			f.lend(t)
			f.goOnLate()
		})
	}
}

// freezeAll freezes a supervisor at each of the points. All of them are waited for at the
// same time.
func freezeAll(t *testing.T, points ...string) []*frozen {
	t.Helper()
	var list []*frozen
	for _, point := range points {
		c := newContainersBeside(t, api.Fail)
		chain.BinDir(t, faultySupervisor, faultyStamper)
		c.program = faultySupervisor
		f := &frozen{succession: c.beSucceeded(patience), point: point}
		f.env = []string{"NSQUEUE_HASTE=4"}
		f.worker = filepath.Join(f.bin, faultyStamper)
		list = append(list, f)
	}
	for _, f := range list {
		f.begin()
		f.busy = f.pods(3)
		f.freeze()
	}
	return list
}

// freeze has a new supervisor take over, and stops it.
func (f *frozen) freeze() {
	f.t.Helper()
	f.fresh = f.enterWith("stop " + f.point)
	f.awaitStop(f.fresh)
	nstest.Must(f.t, f.fresh.Signal(syscall.SIGSTOP))
	f.daemon = f.succession.daemon(f.fresh)
	nstest.Eventually(f.t, patience, "the new daemon is stopped", func() bool {
		return f.daemonIs('T')
	})
}

// daemonIs reports whether the new daemon is in a state that the kernel knows by a letter.
func (f *frozen) daemonIs(state byte) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", f.daemon))
	// PID (NAME) STATE, where the name may contain anything.
	at := bytes.LastIndexByte(stat, ')') + 2
	return err == nil && at < len(stat) && stat[at] == state
}

// goOnWithout has the supervisor before the frozen one serve, and a third one take over
// from it.
func (f *frozen) goOnWithout() {
	f.t.Helper()
	f.awaitRole(f.active, roleActive)
	f.status()
	f.detached = f.busy[1]
	nstest.Must(f.t, f.client.Detach(f.t.Context(), f.detached.key))
	f.busy[1] = f.attach("late")
	f.take()
	f.retire()
}

// comeTooLate has the frozen daemon go on, and its supervisor only after its end.
func (f *frozen) comeTooLate() {
	f.t.Helper()
	before := f.records()
	f.unnoticed(func() {
		got := f.underTraffic(f.busy, func() {
			wait(200 * time.Millisecond)
			nstest.Must(f.t, syscall.Kill(f.daemon, syscall.SIGCONT))
			nstest.Eventually(f.t, patience, "the late daemon ends", func() bool {
				return f.daemonIs('Z')
			})
			nstest.Must(f.t, f.fresh.Signal(syscall.SIGCONT))
			if err := f.fresh.Wait(); err == nil {
				f.t.Error("a supervisor whose daemon was too late ends well")
			}
			wait(200 * time.Millisecond)
		})
		if got.Lost > 0 || got.Uninspected > 0 {
			f.t.Errorf("%v; want none lost or uninspected", got.Result)
		}
	})
	if after := f.records(); !maps.Equal(before, after) {
		f.t.Errorf("state files:\n%v\nwant\n%v", after, before)
	}
	if got := f.detached.peer.Ping(f.t, f.detached.IPv4(), 1, patience); got != 1 {
		f.t.Error("a pod that was detached has no network")
	}
	if s := f.status(); s.Attachments != len(f.busy) || len(s.Problems) > 0 {
		f.t.Errorf("%d attachments, problems %v", s.Attachments, s.Problems)
	}
}

// records returns the contents of the state directory's files.
func (f *frozen) records() map[string]string {
	f.t.Helper()
	paths, err := filepath.Glob(filepath.Join(f.dir, "attachments", "*"))
	nstest.Must(f.t, err)
	found := make(map[string]string)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		nstest.Must(f.t, err)
		found[filepath.Base(path)] = string(b)
	}
	return found
}

// goOnLate has the one before the frozen one stand by, until that goes on and gives back.
func (f *frozen) goOnLate() {
	f.t.Helper()
	f.awaitRole(f.active, roleStandby)
	nstest.Must(f.t, syscall.Kill(f.daemon, syscall.SIGCONT))
	nstest.Must(f.t, f.fresh.Signal(syscall.SIGCONT))
	f.awaitRole(f.fresh, roleActive)
	got := f.underTraffic(f.busy, func() {
		wait(200 * time.Millisecond)
		f.leave(f.fresh)
		f.awaitRole(f.active, roleActive)
		nstest.Must(f.t, f.fresh.Wait())
		wait(200 * time.Millisecond)
	})
	if got.Lost > 0 || got.Uninspected > 0 {
		f.t.Errorf("%v; want none lost or uninspected", got.Result)
	}
	if s := f.status(); s.Attachments != len(f.busy) || len(s.Problems) > 0 {
		f.t.Errorf("%d attachments, problems %v", s.Attachments, s.Problems)
	}
}
