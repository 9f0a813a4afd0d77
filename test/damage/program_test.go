// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/marks"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// programConfig has a program of its own stamp what each pod gets, in place of an inspector.
const programConfig = `
inspectors:
- name: seed
  pods: {}
  budget: %s
  exec:
    command: [%s, -q, "${QUEUE}", -s, -p]
    queue: 80
    path: %s
    restart: {backoff: 50ms, max: 100ms}
`

// longest is the longest budget that a program may have: a machine that stands still is no
// program that hangs.
const longest = 10 * time.Second

// programRig is a rig whose pods are read by a program, which nobody has told of nsqueue.
func programRig(t *testing.T, policy api.Policy, path string, budget time.Duration) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.withProgram(path, budget)
	return r
}

// withProgram has a program read the pods of the rig.
func (r *rig) withProgram(path string, budget time.Duration) {
	r.t.Helper()
	t := r.t
	r.inspector, r.silence = nsqueued, 2*time.Second // under Fail, some is lost each time
	dir := t.TempDir()
	nstest.Must(t, os.Chmod(filepath.Dir(dir), 0o755)) // every user may execute it
	program, err := marks.Build(dir)
	nstest.Must(t, err)
	r.more = fmt.Sprintf(programConfig, budget, program, path)
}

// program waits until the pod's program reads, and returns its process.
func (r *rig) program(p *pod, before int) int {
	r.t.Helper()
	pid := 0
	nstest.Eventually(r.t, patience, "a program reads", func() bool {
		l, err := r.client.List(context.Background())
		if err != nil {
			return false // the daemon starts again
		}
		i := slices.IndexFunc(l.Attachments, func(a api.Attachment) bool { return a.Key == p.key })
		if i < 0 || len(l.Attachments[i].Programs) != 1 {
			return false
		}
		program := l.Attachments[i].Programs[0]
		pid = program.PID
		return program.Ready && pid != before
	})
	return pid
}

// programs returns the processes of all pods' programs.
func (r *rig) programs(pods []*pod) []int {
	var pids []int
	for _, p := range pods {
		pids = append(pids, r.program(p, 0))
	}
	return pids
}

// eachProgram runs a test under either policy, for either way to the program.
func eachProgram(t *testing.T, budget time.Duration, test func(t *testing.T, r *rig)) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		for _, path := range []string{"Behind", "Direct"} {
			t.Run(string(policy)+" "+path, func(t *testing.T) {
				r := programRig(t, policy, path, budget)
				r.start()
				test(t, r)
			})
		}
	}
}

// wantPolicy expects that packets which no program has seen have passed (Ignore) or were
// dropped (Fail).
func (r *rig) wantPolicy(got load.Result) {
	r.t.Helper()
	if r.policy == api.Ignore && got.Lost > 0 || r.policy == api.Fail && got.Uninspected > 0 {
		r.t.Errorf("%v; want none lost under Ignore, none uninspected under Fail", got)
	}
}

// TestKilledProgram kills the program of a pod again and again.
func TestKilledProgram(t *testing.T) {
	eachProgram(t, longest, func(t *testing.T, r *rig) {
		kills := often(10)
		pods := r.pods(1)
		pid := r.program(pods[0], 0)
		got := r.underLoad(pods, func() {
			for range kills {
				wait(150 * time.Millisecond)
				nstest.Must(t, syscall.Kill(pid, syscall.SIGKILL))
				pid = r.program(pods[0], pid)
			}
			wait(150 * time.Millisecond)
		})
		r.wantPolicy(got)
		if got.Sent == got.Lost+got.Uninspected {
			t.Error("the program has seen nothing")
		}
		r.wantNoProgramsAfter(pods)
	})
}

// TestStoppedProgram stops the program of a pod, which is ended for that. Another pod is
// not disturbed.
func TestStoppedProgram(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			r := programRig(t, policy, "Behind", 300*time.Millisecond)
			r.start()
			pods := r.pods(2)
			pid, other := r.program(pods[0], 0), r.program(pods[1], 0)
			got := r.underLoad(pods, func() {
				wait(150 * time.Millisecond)
				nstest.Must(t, syscall.Kill(pid, syscall.SIGSTOP))
				r.program(pods[0], pid)
				wait(150 * time.Millisecond)
			})
			r.wantPolicy(got)
			if now := r.program(pods[1], 0); now != other {
				t.Errorf("the other pod's program is process %d, was %d", now, other)
			}
			r.wantProgramEvent(pods[0], "hangs")
		})
	}
}

// TestProgramsOutliveDaemon kills the daemon, restarts and upgrades it, while programs read
// on: no packet is lost, and none passes that they have not seen, but for those that the
// killed daemon had read.
func TestProgramsOutliveDaemon(t *testing.T) {
	eachProgram(t, longest, func(t *testing.T, r *rig) {
		pods := r.pods(2)
		before := r.programs(pods)
		orphans := 0
		got := r.underLoad(pods, func() {
			for range often(3) {
				for _, replace := range r.replacements() {
					wait(200 * time.Millisecond)
					replace()
				}
				wait(200 * time.Millisecond)
				last := r.status().PID
				nstest.Must(t, syscall.Kill(last, syscall.SIGKILL))
				orphans += int(r.awaitWorker(last).Orphans)
			}
		})
		if after := r.programs(pods); !slices.Equal(before, after) {
			t.Errorf("programs are processes %v, were %v", after, before)
		}
		t.Logf("%d orphans", orphans)
		if r.policy == api.Ignore && (got.Lost > 0 || got.Uninspected > orphans) ||
			r.policy == api.Fail && (got.Lost > orphans || got.Uninspected > 0) {
			t.Errorf("%v, %d orphans", got, orphans)
		}
		r.wantNoProgramsAfter(pods)
	})
}

// TestProgramDiesWithDaemon kills both. What waited for the program has the policy's
// verdict from the next daemon.
func TestProgramDiesWithDaemon(t *testing.T) {
	eachProgram(t, longest, func(t *testing.T, r *rig) {
		pods := r.pods(1)
		pid := r.program(pods[0], 0)
		orphans := 0
		got := r.underLoad(pods, func() {
			for range often(3) {
				wait(200 * time.Millisecond)
				last := r.status().PID
				nstest.Must(t, syscall.Kill(last, syscall.SIGKILL))
				nstest.Must(t, syscall.Kill(pid, syscall.SIGKILL))
				orphans += int(r.awaitWorker(last).Orphans)
				pid = r.program(pods[0], pid)
			}
		})
		r.wantPolicy(got)
		t.Logf("%d orphans", orphans)
	})
}

// wantNoProgramsAfter detaches the pods, and expects that nothing is left of programs.
func (r *rig) wantNoProgramsAfter(pods []*pod) {
	r.t.Helper()
	pids := r.programs(pods)
	_, err := r.client.DetachAll(r.t.Context())
	nstest.Must(r.t, err)
	for _, pid := range pids {
		nstest.Eventually(r.t, patience, fmt.Sprintf("process %d is gone", pid), func() bool {
			return ended(pid)
		})
	}
	nstest.Eventually(r.t, patience, "no groups are left", func() bool {
		return len(programGroups(r.t, r.dir)) == 0
	})
}

// ended reports whether a process has ended, also if its parent does not ask.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}

// programGroups returns the control groups of programs of the daemon.
func programGroups(t *testing.T, stateDir string) []string {
	t.Helper()
	var s syscall.Stat_t
	nstest.Must(t, syscall.Stat(stateDir, &s))
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/nsqueue-*/*", "/sys/fs/cgroup/*/nsqueue-*/*"} {
		paths, err := filepath.Glob(pattern)
		nstest.Must(t, err)
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.IsDir() &&
				strings.Contains(path, fmt.Sprintf("nsqueue-%x-%x/", s.Dev, s.Ino)) {
				found = append(found, path)
			}
		}
	}
	return found
}

func (r *rig) wantProgramEvent(p *pod, text string) {
	r.t.Helper()
	d, err := r.client.Describe(r.t.Context(), p.key)
	nstest.Must(r.t, err)
	if !slices.ContainsFunc(d.Events, func(e api.Event) bool {
		return e.Kind == api.EventProgram && strings.Contains(e.Message, text)
	}) {
		r.t.Errorf("no event about %q in %v", text, d.Events)
	}
}
