// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/marks"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// seedConfig has a program that knows nothing of nsqueue read packets of pods.
const seedConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
%sinspectors:
- name: seed
%s  exec: {command: [%s, -q, "${QUEUE}", -m, "0x1000000"], queue: 80}
`

// newProgramRig prepares a daemon that runs the program. more are further keys, and pods
// those of the inspector.
func newProgramRig(t *testing.T, policy api.Policy, more, pods string) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.configure(t, fmt.Sprintf(seedConfig, more, pods, buildProgram(t)))
	return r
}

// buildProgram returns the path of a program that every user may execute.
func buildProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	nstest.Must(t, os.Chmod(filepath.Dir(dir), 0o755))
	program, err := marks.Build(dir)
	nstest.Must(t, err)
	return program
}

// configure writes the daemon's configuration.
func (r *rig) configure(t *testing.T, text string) {
	t.Helper()
	config := filepath.Join(r.dir, "nsqueued.yaml")
	nstest.Must(t, os.WriteFile(config, []byte(text), 0o600))
	r.SetArgs("--config", config)
}

// programs returns the processes of a pod's programs that read their queues.
func (r *rig) programs(t *testing.T, p *chain.Pod) (pids []int) {
	t.Helper()
	for _, a := range r.list(t) {
		for _, program := range a.Programs {
			if a.Key == p.Key() && program.Ready {
				pids = append(pids, program.PID)
			}
		}
	}
	return pids
}

// toProgram leaves flows of the pod a to the program; its own marks come with them.
const toProgram = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: first}
spec:
  pods: {when: pod.name == "a"}
  rules:
  - {name: refused, when: server.port == 7000, action: drop}
  - {name: mark, when: server.port == 7001, action: mark, mark: 0x2000000/0x2000000}
  - {name: ask, when: server.port == 7001, action: %s}
`

// TestRulesLeaveFlowsToProgram has rules choose what a program sees: of one pod, the flows
// of one port, with the marks of rules. It runs where rules name it, and while they do.
func TestRulesLeaveFlowsToProgram(t *testing.T) {
	dir := t.TempDir()
	rules := func(action string) {
		file := filepath.Join(dir, "first.yaml")
		nstest.Must(t, os.WriteFile(file+".new", fmt.Appendf(nil, toProgram, action), 0o600))
		nstest.Must(t, os.Rename(file+".new", file))
	}
	rules("inspect, inspector: seed")
	r := newProgramRig(t, api.Fail, "rules: {directory: "+dir+"}\n", "")
	r.start(t)
	network := r.open(t, bridgeList, "1.1.0", api.Fail)
	a, b := newPod(t, network, "a"), newPod(t, network, "b")
	var pids []int
	nstest.Eventually(t, patience, "a program reads the first pod", func() bool {
		pids = r.programs(t, a)
		return len(pids) == 1
	})
	if got := r.programs(t, b); len(got) != 0 {
		t.Errorf("programs %v read the second pod", got)
	}
	r.wantDatagrams(t, b, a, map[uint16]bool{7000: false, 7001: true, 7002: true})
	nstest.Eventually(t, patience, "the log has what the program prints", func() bool {
		return r.Log.Contains("set mark")
	})
	if n := strings.Count(r.Log.String(), "set mark"); n != 1 || !r.Log.Contains(
		"packet: 1, origin mark: 0x02000000, set mark: 0x03000000") {
		t.Errorf("the program has seen %d packets, want the one that the rule leaves to it:\n%s", n,
			r.Log.String())
	}
	rules("accept")
	nstest.Eventually(t, patience, "the program ends that no rule names", func() bool {
		return len(r.programs(t, a)) == 0 && syscall.Kill(pids[0], 0) != nil
	})
	r.wantDatagrams(t, b, a, map[uint16]bool{7000: false, 7001: true})
	rules("inspect, inspector: seed")
	nstest.Eventually(t, patience, "a program runs that a rule names again", func() bool {
		return len(r.programs(t, a)) == 1
	})
	r.wantDatagrams(t, b, a, map[uint16]bool{7000: false, 7001: true})
}

// wantDatagrams sends one to each port, and expects those to arrive that may.
func (r *rig) wantDatagrams(t *testing.T, from, to *chain.Pod, arrives map[uint16]bool) {
	t.Helper()
	for port, want := range arrives {
		at := netip.AddrPortFrom(to.IPv4, port).String()
		listener := to.NetNS.ListenUDP(t, at)
		sender := from.NetNS.DialUDP(t, at)
		_, err := sender.Write([]byte("x"))
		nstest.Must(t, err)
		limit := patience
		if !want {
			limit = silence
		}
		nstest.Must(t, listener.SetReadDeadline(time.Now().Add(limit)))
		if _, err := listener.Read(make([]byte, 1)); (err == nil) != want {
			t.Errorf("port %d: %v, want it to arrive: %v", port, err, want)
		}
		nstest.Must(t, sender.Close())
		nstest.Must(t, listener.Close())
	}
}

// programPodsEnv is the variable that says how many pods have a program each.
const programPodsEnv = "NSQUEUE_PROGRAM_PODS"

// TestManyPrograms starts many pods with a program each, says how much longer that takes
// than without, and ends them: nothing is left.
func TestManyPrograms(t *testing.T) {
	count, err := strconv.Atoi(cmp.Or(os.Getenv(programPodsEnv), "20"))
	nstest.Must(t, err)
	r := newProgramRig(t, api.Fail, "", "  pods: {namespaces: [seeded]}\n")
	r.start(t)
	network := r.open(t, bridgeList, "1.1.0", api.Fail)
	remove(t, newPod(t, network, "seeded/first"))
	before := r.usage(t)

	var plain, seeded []time.Duration
	var pods []*chain.Pod
	var freed []func() bool
	for i := range count {
		if i%2 == 0 {
			_, took := r.timed(t, network, fmt.Sprintf("plain/p%d", i))
			plain = append(plain, took)
		}
		p, took := r.timed(t, network, fmt.Sprintf("seeded/p%d", i))
		seeded, pods = append(seeded, took), append(pods, p)
		is, err := p.NetNS.Canary(fmt.Sprint("canary", i))
		nstest.Must(t, err)
		freed = append(freed, is)
	}
	slices.Sort(plain)
	slices.Sort(seeded)
	t.Logf("%d pods, ADD p50: %v without a program, %v with one", count,
		plain[len(plain)/2].Round(time.Millisecond), seeded[count/2].Round(time.Millisecond))
	var pids []int
	nstest.Eventually(t, patience, "all programs read", func() bool {
		pids = nil
		for _, p := range pods {
			pids = append(pids, r.programs(t, p)...)
		}
		return len(pids) == count
	})
	if len(r.programGroups(t)) == 0 {
		t.Error("they have no group")
	}
	for _, p := range pods {
		remove(t, p)
	}
	for _, a := range r.list(t) {
		nstest.Must(t, r.Client.Detach(t.Context(), a.Key))
	}
	nstest.Eventually(t, patience, "no process and no group is left", func() bool {
		alive := func(pid int) bool { return syscall.Kill(pid, 0) == nil }
		return !slices.ContainsFunc(pids, alive) && len(r.programGroups(t)) == 0
	})
	nstest.Eventually(t, patience, "the kernel frees the netns", func() bool {
		return !slices.ContainsFunc(freed, func(is func() bool) bool { return !is() })
	})
	nstest.Eventually(t, patience, "nsqueued has no more descriptors than before", func() bool {
		return len(r.usage(t).Files) <= len(before.Files)
	})
}

// timed adds a pod, and says how long that took.
func (r *rig) timed(t *testing.T, n *chain.Network, name string) (*chain.Pod, time.Duration) {
	t.Helper()
	begin := time.Now()
	p := newPod(t, n, name)
	return p, time.Since(begin)
}

// programGroups returns the control groups of the daemon's programs.
func (r *rig) programGroups(t *testing.T) (found []string) {
	t.Helper()
	var s syscall.Stat_t
	nstest.Must(t, syscall.Stat(r.dir, &s))
	for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		paths, err := filepath.Glob(filepath.Join(at, fmt.Sprintf("nsqueue-%x-%x", s.Dev, s.Ino)))
		nstest.Must(t, err)
		found = append(found, paths...)
	}
	return found
}

// sickConfig has programs of which each has something else.
const sickConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
inspectors:
- name: dead
  pods: {namespaces: [dead]}
  exec:
    command: [%[1]s, -o, exit=0]
    queue: 80
    startup: Background
    restart: {backoff: 10ms, max: 20ms}
- name: wrong
  pods: {namespaces: [wrong]}
  exec: {command: [%[1]s, -q, "${QUEUE}", -o, other], queue: 90, startup: Background}
- name: slow
  pods: {namespaces: [slow]}
  budget: 400ms
  exec: {command: [%[1]s, -q, "${QUEUE}", -o, slow=50], queue: 100}
`

// TestDoctorFindsPrograms has doctor examine pods whose programs end again and again, bind
// another queue, and are slow.
func TestDoctorFindsPrograms(t *testing.T) {
	r := newRig(t, api.Ignore)
	r.configure(t, fmt.Sprintf(sickConfig, buildProgram(t)))
	r.start(t)
	network := r.open(t, bridgeList, "1.1.0", api.Ignore)
	newPod(t, network, "dead/a")
	newPod(t, network, "wrong/b")
	slow := newPod(t, network, "slow/c")
	sender := newPod(t, network, "d").NetNS.DialUDP(t, netip.AddrPortFrom(slow.IPv4, 7001).String())
	var missing []string
	found := nstest.Poll(patience, func() bool {
		for range 30 { // it takes more than a second for them
			_, err := sender.Write([]byte("x"))
			if err != nil && !errors.Is(err, syscall.ECONNREFUSED) { // nothing listens
				t.Fatal(err)
			}
		}
		out, _ := r.operator(t, "doctor").Output() // it is not content
		missing = slices.DeleteFunc([]string{
			"program dead ends again and again",
			"program wrong has not bound queue 90, but [91]", "program slow is slow: packets wait for",
		}, func(text string) bool { return strings.Contains(string(out), text) })
		return len(missing) == 0
	})
	if !found {
		t.Errorf("doctor does not say %q", missing)
	}
}
