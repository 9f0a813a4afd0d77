// SPDX-License-Identifier: Apache-2.0

//go:build netns

package netns_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// A census finds processes and mounts, and says where it does not see all.
func TestCensus(t *testing.T) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &own); err != nil {
		t.Fatal(err)
	}
	pod, err := nstest.Create("census")
	if err != nil {
		t.Fatal(err)
	}
	ns := open(t, pod.Path())
	found := func() bool {
		c := netns.Take(own.Ino, noneOfOurs)
		if c.Hidden != nil {
			t.Fatal(c.Hidden)
		}
		path := c.Find(ns.ID().Dev, ns.ID().Ino)
		return path != "" && open(t, path).ID() == ns.ID()
	}
	if !found() {
		t.Error("a netns that is mounted is not found")
	}
	process := pod.Command("sleep", "infinity")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if err := pod.Remove(); err != nil {
		t.Fatal(err)
	}
	if !found() {
		t.Error("a netns with a process is not found")
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	if found() {
		t.Error("a netns is found that only a descriptor holds")
	}
	if c := netns.Take(0, noneOfOurs); !errors.Is(c.Hidden, netns.ErrHidden) {
		t.Errorf("in a PID namespace of its own, hidden: %v", c.Hidden)
	}
}

// Before CAP_SYS_PTRACE, hidepid hides nothing.
func TestCensusBesideHidepid(t *testing.T) {
	t.Cleanup(func() {
		if err := unix.Mount("", "/proc", "", unix.MS_REMOUNT, "hidepid=0"); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", "/proc", "", unix.MS_REMOUNT, "hidepid=2"); err != nil {
		t.Fatal(err)
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &own); err != nil {
		t.Fatal(err)
	}
	if c := netns.Take(own.Ino, noneOfOurs); c.Hidden != nil {
		t.Errorf("with CAP_SYS_PTRACE: %v", c.Hidden)
	}
}

func noneOfOurs(int) bool { return false }
