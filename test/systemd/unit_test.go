// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package systemd

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestUnit runs the unit through what happens to a daemon.
func TestUnit(t *testing.T) {
	old, oldPeer := nstest.Pair(t)
	m := start(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"netns", func(t *testing.T, m *machine) { inspectsNetns(t, m, old, oldPeer) }},
		{"netns of a process", inspectsProcess},
		{"reload", reloadEndsNothing},
		{"restart", restartLosesNothing},
		{"kill", killLosesOrphans},
		{"stop signal", hangingIsReplaced},
		{"1000 descriptors", restartKeepsMany},
		{"stop", stopGivesNetworkBack},
		{"modules", loadsModulesOnRequest},
	} {
		began := time.Now()
		m.run(t, "systemctl", "reset-failed", unitName) // which forgets earlier starts
		if !t.Run(step.name, func(t *testing.T) { step.run(t, m) }) {
			t.Log(m.run(t, "systemctl", "show", unitName))
		}
		t.Logf("%s: %v", step.name, time.Since(began).Round(time.Millisecond))
	}
}

// TestUnitIsValid has systemd look for mistakes in the unit and its drop-in.
func TestUnitIsValid(t *testing.T) {
	units := t.TempDir()
	dropins := filepath.Join(units, unitName+".d")
	nstest.Must(t, os.Mkdir(dropins, 0o755))
	copyFile(t, filepath.Join(unitDir, "kmod.conf"), filepath.Join(dropins, "kmod.conf"))
	unit, err := os.ReadFile(filepath.Join(unitDir, unitName))
	nstest.Must(t, err)
	program := filepath.Join(units, "nsqueued")
	nstest.Must(t, os.WriteFile(program, nil, 0o755))
	text := strings.ReplaceAll(string(unit), sbin+"/nsqueued", program)
	nstest.Must(t, os.WriteFile(filepath.Join(units, unitName), []byte(text), 0o644))
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no",
		filepath.Join(units, unitName))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), unitName) {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}

// inspectsNetns: the daemon's mounts have netns of before and after its start.
func inspectsNetns(t *testing.T, m *machine, old, oldPeer *nstest.NetNS) {
	fresh, freshPeer := nstest.Pair(t)
	for id, pair := range map[string][2]*nstest.NetNS{
		"before": {old, oldPeer}, "after": {fresh, freshPeer},
	} {
		key := m.attach(t, id, pair[0].Path(), api.Fail)
		m.inspects(t, key, pair[1], pair[0].IPv4())
	}
}

// inspectsProcess: namespaces of other users' processes can be found and
// entered, which adoption and the search for pods that are gone need.
func inspectsProcess(t *testing.T, m *machine) {
	pod, peer := nstest.Pair(t)
	cmd := m.command("nsenter", "--net="+pod.Path(), "sh", "-c",
		"echo $$; exec setpriv --reuid=65534 --regid=65534 --clear-groups cat")
	stdin, err := cmd.StdinPipe()
	nstest.Must(t, err)
	stdout, err := cmd.StdoutPipe()
	nstest.Must(t, err)
	nstest.Must(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	pid, err := bufio.NewReader(stdout).ReadString('\n')
	nstest.Must(t, err)
	path := fmt.Sprintf("/proc/%s/ns/net", strings.TrimSpace(pid))
	key := m.attach(t, "process", path, api.Fail)
	m.inspects(t, key, peer, pod.IPv4())
}

// restartLosesNothing: the queues' sockets go from one daemon to the next.
func restartLosesNothing(t *testing.T, m *machine) {
	pod, peer := nstest.Pair(t)
	key := m.attach(t, "restarted", pod.Path(), api.Fail)
	before := ports(t, pod)
	const rate, restarts = 15000, 3
	got := underLoad(t, pod, peer, rate, func() {
		for range restarts {
			last := m.status(t).PID
			m.run(t, "systemctl", "restart", unitName)
			m.await(t, last)
		}
	})
	s := m.status(t)
	if got.Lost > 0 || s.Orphans > 0 || len(s.Problems) > 0 {
		t.Errorf("%v, %d orphans, problems %v; want nothing lost", got, s.Orphans, s.Problems)
	}
	if after := ports(t, pod); len(after) != 3 || !slices.Equal(after, before) {
		t.Errorf("queues belong to sockets %v, then %v; want the same three", before, after)
	}
	m.inspects(t, key, peer, pod.IPv4())
}

// ports returns the sockets that the netns' queues belong to.
func ports(t *testing.T, pod *nstest.NetNS) (ports []string) {
	t.Helper()
	var b []byte
	nstest.Must(t, pod.Try(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	}))
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			ports = append(ports, fields[1])
		}
	}
	return ports
}

// reloadEndsNothing: a daemon without rules has nothing to reload, and goes on.
func reloadEndsNothing(t *testing.T, m *machine) {
	before := m.status(t)
	m.run(t, "systemctl", "reload", unitName)
	pod, peer := nstest.Pair(t)
	m.inspects(t, m.attach(t, "reloaded", pod.Path(), api.Fail), peer, pod.IPv4())
	if after := m.status(t); after.PID != before.PID {
		t.Errorf("process %d, before the reload %d", after.PID, before.PID)
	}
}

// killLosesOrphans: under Fail, only packets that the daemon had read are lost.
func killLosesOrphans(t *testing.T, m *machine) {
	pod, peer := nstest.Pair(t)
	m.attach(t, "killed", pod.Path(), api.Fail)
	const rate, kills = 15000, 3
	orphans := 0
	got := underLoad(t, pod, peer, rate, func() {
		for range kills {
			last := m.status(t).PID
			m.signal(t, "KILL", last)
			orphans += int(m.await(t, last).Orphans)
		}
	})
	if got.Lost > orphans {
		t.Errorf("%v; want at most the %d orphans lost", got, orphans)
	}
}

// hangingIsReplaced: a daemon that hangs is replaced when the watchdog is up.
func hangingIsReplaced(t *testing.T, m *machine) {
	const rate = 500 // what comes in half a minute fits into the queue
	pod, peer := nstest.Pair(t)
	m.attach(t, "stopped", pod.Path(), api.Fail)
	orphans := 0
	got := underLoad(t, pod, peer, rate, func() {
		last := m.status(t).PID
		m.signal(t, "STOP", last)
		orphans = int(m.await(t, last).Orphans)
	})
	if got.Lost > orphans {
		t.Errorf("%v, %d orphans; want only orphans lost", got, orphans)
	}
}

// restartKeepsMany: the names of all descriptors fit, and each finds its pod.
func restartKeepsMany(t *testing.T, m *machine) {
	const pods, descriptors = 250, 1000
	pod, peer := nstest.Pair(t)
	key := m.attach(t, "busy", pod.Path(), api.Fail)
	for i := range pods - 1 {
		m.attach(t, fmt.Sprintf("idle%d", i), nstest.New(t).Path(), api.Ignore)
	}
	var before int
	nstest.Eventually(t, patience, "descriptors in the store", func() bool {
		before = m.stored(t)
		return before > descriptors // and the API's listener
	})
	last := m.status(t).PID
	m.run(t, "systemctl", "restart", unitName)
	s := m.await(t, last)
	if s.Attachments != pods || len(s.Problems) > 0 {
		t.Errorf("%d attachments, want %d; problems %v", s.Attachments, pods, s.Problems)
	}
	if after := m.stored(t); after != before {
		t.Errorf("%d descriptors in the store, %d before the restart", after, before)
	}
	m.inspects(t, key, peer, pod.IPv4())
}

// stopGivesNetworkBack: systemd closes the descriptors, and each pod is in
// the state that its policy says, until the next start.
func stopGivesNetworkBack(t *testing.T, m *machine) {
	const hear = 300 * time.Millisecond
	ignored, ignoredPeer := nstest.Pair(t)
	failed, failedPeer := nstest.Pair(t)
	ignoredKey := m.attach(t, "ignored", ignored.Path(), api.Ignore)
	failedKey := m.attach(t, "failed", failed.Path(), api.Fail)
	m.run(t, "systemctl", "stop", unitName)
	nstest.Eventually(t, patience, "network of the pod under Ignore", func() bool {
		return ignoredPeer.Ping(t, ignored.IPv4(), 1, hear) == 1
	})
	if failedPeer.Ping(t, failed.IPv4(), 1, hear) != 0 {
		t.Error("packets of the pod under Fail pass uninspected")
	}
	m.run(t, "systemctl", "start", unitName)
	m.await(t, 0)
	m.inspects(t, ignoredKey, ignoredPeer, ignored.IPv4())
	m.inspects(t, failedKey, failedPeer, failed.IPv4())
}

// loadsModulesOnRequest: only the drop-in lets the daemon load the module.
func loadsModulesOnRequest(t *testing.T, m *machine) {
	a := readProbe(t)
	if a.Module || has(t, a.Bounding, unix.CAP_SYS_MODULE) || a.Home {
		t.Errorf("the unit allows %+v, want no modules and no files in home directories", a)
	}
	for _, c := range []int{
		unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_PTRACE,
	} {
		if !has(t, a.Bounding, c) {
			t.Errorf("the unit forbids capability %d", c)
		}
	}
	copyFile(t, filepath.Join(unitDir, "kmod.conf"), filepath.Join(m.dropins(), "kmod.conf"))
	m.run(t, "systemctl", "daemon-reload")
	last := m.status(t).PID
	m.run(t, "systemctl", "restart", unitName)
	m.await(t, last)
	a = readProbe(t)
	if !a.Module || !has(t, a.Bounding, unix.CAP_SYS_MODULE) {
		t.Errorf("with the drop-in the unit allows %+v, want modules", a)
	}
}
