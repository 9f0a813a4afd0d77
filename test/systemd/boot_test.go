// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package systemd runs nsqueued by its unit under a real systemd, which is PID 1
// of a PID, a mount and a control group namespace of its own.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == probeArg {
		runProbe()
		return
	}
	nstest.Main(m)
}

const (
	// patience is how long a test waits for what should come at once; it only
	// ends what hangs.
	patience = time.Minute
	unitDir  = "../../deploy/systemd"
	unitName = "nsqueued.service"
	// cgroupRoot is the hierarchy that systemd cannot do without.
	cgroupRoot   = "/sys/fs/cgroup/systemd"
	cgroupPrefix = "nsqueue-test-systemd-"
)

// script makes room for systemd and becomes it. The other hierarchies of
// control groups are hidden: systemd would leave groups of its own in them,
// which outlive every namespace.
const script = `set -eu
mount --make-rslave /
mount --make-rshared /
mount -t proc proc /proc
mkdir /run/cgroup
mount --bind "$2" /run/cgroup
mount -t tmpfs cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount --bind /run/cgroup /sys/fs/cgroup/systemd
umount /run/cgroup
rmdir /run/cgroup
mount -o remount,ro /sys/fs/cgroup
mkdir -p /run/systemd/system
export container=nsqueue SYSTEMD_UNIT_PATH="$1"
exec /lib/systemd/systemd --system --unit=nsqueued.service --log-target=null --show-status=0
`

// boot starts systemd with the units in the directory, and returns its process
// ID here. It ends with the test, and leaves nothing also where it fails.
func boot(t *testing.T, units string) int {
	t.Helper()
	// What is mounted in /run from now on appears in systemd's mounts as well.
	if err := unix.Mount("", "/run", "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(os.NewSyscallError("mount /run shared", err))
	}
	removeStale()
	cgroup, err := os.MkdirTemp(cgroupRoot, cgroupPrefix) //nolint:usetesting // a control group
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nstest.Eventually(t, patience, "empty "+cgroup, func() bool { return removeTree(cgroup) })
	})
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ended in order below
	cmd := exec.CommandContext(ctx, "sh", "-c", "echo 0 >\"$2\"/cgroup.procs && "+
		"exec unshare -C -m --propagation unchanged -p -f --kill-child sh -c \"$0\" sh \"$1\" \"$2\"",
		script, units, cgroup)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	pid := 0
	nstest.Eventually(t, patience, "systemd", func() bool {
		pid = childNamed(cmd.Process.Pid, "systemd")
		return pid != 0
	})
	return pid
}

// childNamed returns the process' only child if it is the program.
func childNamed(parent int, program string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || string(name) != program+"\n" {
		return 0
	}
	return pid
}

// removeStale removes the groups of runs that were killed. Groups with processes
// in them cannot be removed; those of a run that has just begun are left.
func removeStale() {
	stale, _ := filepath.Glob(filepath.Join(cgroupRoot, cgroupPrefix+"*"))
	for _, dir := range stale {
		info, err := os.Stat(dir)
		if err == nil && time.Since(info.ModTime()) > time.Minute {
			removeTree(dir)
		}
	}
}

// removeTree removes a control group and those in it.
func removeTree(dir string) bool {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	return os.Remove(dir) == nil
}
