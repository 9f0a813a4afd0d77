// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
)

// leases returns the addresses that host-local has given out.
func (n *node) leases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(n.File("/var/lib/cni/networks/*/*"))
	nstest.Must(t, err)
	return slices.DeleteFunc(files, func(f string) bool {
		return strings.HasPrefix(filepath.Base(f), "last_reserved_ip") || filepath.Base(f) == "lock"
	})
}

// left lists what pods have left behind on the node.
func (n *node) left(t *testing.T) []string {
	t.Helper()
	found := n.leases(t)
	for _, pattern := range []string{
		"/run/netns/*", "/run/nsqueue/attachments/*", "/run/nsqueue/spool/*",
		"/var/lib/cni/results/*", "/var/lib/cni/cache/results/*", "/var/lib/cni/flannel/*",
	} {
		files, err := filepath.Glob(n.File(pattern))
		nstest.Must(t, err)
		found = append(found, files...)
	}
	links, err := n.Run("ip", "-o", "link")
	nstest.Must(t, err)
	for line := range strings.Lines(links) {
		if strings.Contains(line, "veth") || strings.Contains(line, "bwp") {
			found = append(found, line)
		}
	}
	rules, err := n.Run("iptables-save", "-t", "nat")
	nstest.Must(t, err)
	for line := range strings.Lines(rules) {
		if strings.Contains(line, "--dport 8080") || strings.Contains(line, "-A CNI-") &&
			strings.Contains(line, "-s 10.24") {
			found = append(found, line)
		}
	}
	tables, err := n.Run("nft", "list", "tables")
	nstest.Must(t, err)
	for line := range strings.Lines(tables) {
		if strings.Contains(line, "nsqueue") {
			found = append(found, line)
		}
	}
	pods, err := n.client.Pods(lasting(t))
	nstest.Must(t, err)
	return append(found, pods...)
}

// usage is what the daemon and its supervisor hold.
func (n *node) usage(t *testing.T) (supervisor, worker chain.Usage) {
	t.Helper()
	supervisor, err := chain.UsageOf(n.nsqueued.PID())
	nstest.Must(t, err)
	worker, err = chain.UsageOf(n.worker())
	nstest.Must(t, err)
	return supervisor, worker
}

// sockets are those of the descriptors that keep a netns alive. The others come
// and go: Go's runtime opens its own when a process first has something to poll.
func sockets(kinds []string) []string {
	return slices.DeleteFunc(kinds, func(k string) bool { return k != "socket" })
}

// checkNothingLeft wants the node as it was before its first pod.
func (n *node) checkNothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	nstest.Poll(patience, func() bool {
		left = append(n.left(t), n.complaints(t)...)
		supervisor, worker := n.usage(t)
		left = append(left, sockets(supervisor.HeldSince(n.supervisorBefore))...)
		left = append(left, sockets(worker.HeldSince(n.workerBefore))...)
		return len(left) == 0
	})
	for _, l := range left {
		t.Errorf("left on %s: %s", n.Name, l)
	}
}

// complaints is what the daemon finds wrong when it should have nothing to do.
func (n *node) complaints(t *testing.T) []string {
	t.Helper()
	s, err := n.daemon.Status(lasting(t))
	nstest.Must(t, err)
	found := make([]string, 0, len(s.Problems)+1)
	for _, p := range s.Problems {
		found = append(found, fmt.Sprintf("the problem %+v", p))
	}
	if s.Attachments != 0 {
		found = append(found, fmt.Sprintf("%d attachments", s.Attachments))
	}
	return found
}

// checkProcesses wants none but this one and the throw-away node's init, when
// everything has been stopped.
func checkProcesses(t *testing.T) {
	t.Helper()
	var left []string
	nstest.Poll(patience, func() bool {
		left = nil
		dirs, err := filepath.Glob("/proc/[0-9]*")
		nstest.Must(t, err)
		for _, d := range dirs {
			if d == "/proc/1" || d == fmt.Sprintf("/proc/%d", os.Getpid()) {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(d, "cmdline")); err == nil {
				left = append(left, d+" "+strings.ReplaceAll(string(b), "\x00", " "))
			}
		}
		return len(left) == 0
	})
	for _, l := range left {
		t.Errorf("still runs: %s", l)
	}
}

// cgroupTops are the folders of control groups that the pods have in common, one in each
// hierarchy.
func cgroupTops(t *testing.T) []string {
	t.Helper()
	tops, err := filepath.Glob("/sys/fs/cgroup/*" + cgroupParent)
	nstest.Must(t, err)
	return append(tops, "/sys/fs/cgroup"+cgroupParent)
}

// removeCgroups removes what a test has left that was killed.
func removeCgroups(t *testing.T) {
	t.Helper()
	for _, top := range cgroupTops(t) {
		for _, dir := range slices.Backward(groupsBelow(t, top)) {
			_ = os.Remove(dir) // what is in use will be complained of
		}
	}
}

// checkCgroups removes the folders that the pods had in common, and complains of what stays
// below them. The kernel lets go of a group some time after the end of its last process.
func checkCgroups(t *testing.T) {
	t.Helper()
	tops := cgroupTops(t)
	var left []string
	nstest.Poll(patience, func() bool {
		left = nil
		for _, top := range tops {
			left = append(left, groupsBelow(t, top)...)
		}
		return len(left) == 0
	})
	for _, l := range left {
		t.Errorf("left: %s", l)
	}
	for _, top := range tops {
		if err := os.Remove(top); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

// groupsBelow returns the control groups below one, without those that podman leaves:
// these it removes.
func groupsBelow(t *testing.T, top string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != top {
			all = append(all, path)
		}
		if errors.Is(err, os.ErrNotExist) { // it has ended meanwhile
			return nil
		}
		return err
	})
	nstest.Must(t, err)
	return slices.DeleteFunc(all, func(path string) bool {
		return filepath.Base(path) == "conmon" && os.Remove(path) == nil
	})
}

// stopAll stops the programs of a node, the runtime first.
func (n *node) stopAll() []error {
	_ = n.client.Close()
	var errs []error
	for _, p := range append([]*cluster.Process{n.runtime, n.nsqueued}, n.others...) {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return append(errs, n.Stop())
}
