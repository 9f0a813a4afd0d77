// SPDX-License-Identifier: Apache-2.0

// Package systemdtest runs the unit under a real systemd, which is PID 1 of
// namespaces of its own, with a small daemon in nsqueued's place.
package systemdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	workerArg = "systemd-worker"
	unitPath  = "../../../../deploy/systemd/nsqueued.service"
	patience  = 15 * time.Second
	stored    = 1000
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArg {
		if err := runWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	nstest.Main(m)
}

// runWorker stores descriptors where it inherits none, and writes what it has
// got to a file.
func runWorker() error {
	s, err := fdstore.FromEnvironment(fdstore.ProcessEnvironment())
	if err != nil {
		return err
	}
	n := len(s.Inherited())
	if n == 0 {
		if err := fill(s); err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	report := fmt.Sprintf("%d %d %s", os.Getpid(), n, s.Supervisor().Kind)
	if err := os.WriteFile(os.Args[2], []byte(report), 0o600); err != nil {
		return err
	}
	if err := s.Ready("serves"); err != nil {
		return err
	}
	tick := time.NewTicker(s.Watchdog() / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.Alive(); err != nil {
				return err
			}
		case <-stop:
			return nil
		}
	}
}

func fill(s *fdstore.Store) error {
	for i := range stored {
		fd, err := unix.MemfdCreate("stored", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "stored")
		err = s.Put(fdstore.Name{Kind: fdstore.Queue, Cookie: uint64(i), Strict: true}, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// script makes room for systemd and becomes it.
const script = `set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$2" /sys/fs/cgroup/systemd
mkdir -p /run/systemd/system
export container=nsqueue SYSTEMD_UNIT_PATH="$1"
exec /lib/systemd/systemd --system --unit=nsqueued.service --log-target=null --show-status=0
`

// boot starts systemd with the unit, and returns its process ID here.
func boot(t *testing.T, units string) int {
	t.Helper()
	cgroup := filepath.Join("/sys/fs/cgroup/systemd", fmt.Sprintf("nsqueue-test-%d", os.Getpid()))
	shell := fmt.Sprintf("mkdir -p %[1]s && echo 0 >%[1]s/cgroup.procs && "+
		"exec unshare -C -m -p -f --kill-child sh -c \"$0\" sh \"$1\" %[1]s", cgroup)
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ended in order below
	cmd := exec.CommandContext(ctx, "sh", "-c", shell, script, units)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		nstest.Eventually(t, patience, "empty "+cgroup, func() bool { return removeTree(cgroup) })
	})
	pid := 0
	nstest.Eventually(t, patience, "systemd", func() bool {
		children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
		b, err := os.ReadFile(children)
		if err != nil {
			return false
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
			return false
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err == nil && string(name) == "systemd\n"
	})
	return pid
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

func TestUnit(t *testing.T) {
	dir := t.TempDir()
	report := filepath.Join(dir, "report")
	units := filepath.Join(dir, "units")
	dropin := filepath.Join(units, "nsqueued.service.d")
	if err := os.MkdirAll(dropin, 0o755); err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(unitPath)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "worker")
	copied, err := os.ReadFile(self)
	override := fmt.Sprintf("[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=\n"+
		"ExecStart=%s %s %s\nWatchdogSec=1\nOOMScoreAdjust=0\n", program, workerArg, report)
	err = errors.Join(err, os.WriteFile(program, copied, 0o755),
		os.WriteFile(filepath.Join(units, "nsqueued.service"), unit, 0o644),
		os.WriteFile(filepath.Join(dropin, "test.conf"), []byte(override), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	verify(t, units)
	systemd := boot(t, units)
	last := wantWorker(t, report, 0, 0)
	last = restartBy(t, systemd, report, last, "systemctl", "restart", "nsqueued")
	last = restartBy(t, systemd, report, last, "kill", "-KILL", strconv.Itoa(last))
	restartBy(t, systemd, report, last, "kill", "-STOP", strconv.Itoa(last))
}

// verify has systemd look for mistakes in the unit.
func verify(t *testing.T, units string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no",
		filepath.Join(units, "nsqueued.service"))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "nsqueued.service") {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// restartBy runs a command in systemd's namespaces and waits for the next
// worker, which must have all descriptors.
func restartBy(t *testing.T, systemd int, report string, last int, argv ...string) int {
	t.Helper()
	began := time.Now()
	enter := append([]string{"-t", strconv.Itoa(systemd), "-m", "-p"}, argv...)
	if out, err := exec.CommandContext(t.Context(), "nsenter", enter...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
	pid := wantWorker(t, report, last, stored)
	t.Logf("%v: the next daemon is there after %v", argv[:2], time.Since(began))
	return pid
}

func wantWorker(t *testing.T, report string, last, inherited int) int {
	t.Helper()
	var pid, n int
	var kind string
	nstest.Eventually(t, patience, "next daemon", func() bool {
		b, err := os.ReadFile(report)
		if err != nil {
			return false
		}
		_, err = fmt.Sscanf(string(b), "%d %d %s", &pid, &n, &kind)
		return err == nil && pid != last
	})
	if n != inherited || kind != fdstore.Systemd {
		t.Errorf("the daemon has inherited %d under %s, want %d under systemd", n, kind, inherited)
	}
	return pid
}
