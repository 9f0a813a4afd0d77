// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// holderConfig has an inspector that is given the sockets of its queues.
const holderConfig = `inspectors:
- name: holder
  pods: {}
  socket: %s
  transport: descriptor
  allowDescriptor: true
  descriptor: {queue: 80, path: %s}
  budget: %v
`

// newHeld is a rig whose packets an inspector reads by itself.
func newHeld(t *testing.T, policy api.Policy, path string, budget time.Duration) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.inspector, r.silence = nsqueued, 2*time.Second // under Fail, some is lost each time
	r.more = fmt.Sprintf(holderConfig, r.markerSocket(), path, budget)
	r.start()
	return r
}

// hold starts a holder, and returns it when it is connected.
func (r *rig) hold() *exec.Cmd {
	r.t.Helper()
	return r.outsider("test/holder")
}

// eachHeld runs a test for either way to the inspector.
func eachHeld(t *testing.T, budget time.Duration, test func(t *testing.T, r *rig)) {
	for policy, path := range map[api.Policy]string{api.Ignore: "Behind", api.Fail: "Direct"} {
		t.Run(string(policy)+" "+path, func(t *testing.T) {
			test(t, newHeld(t, policy, path, budget))
		})
	}
}

// wantHeld expects that nothing was lost under Ignore, and nothing passed that the
// inspector has not seen under Fail.
func (r *rig) wantHeld(sent, lost, unmarked int) {
	r.t.Helper()
	if r.policy == api.Ignore && lost > 0 || r.policy == api.Fail && unmarked > 0 ||
		sent == lost+unmarked {
		r.t.Errorf("%d sent, %d lost, %d not inspected; want none lost under Ignore, none not "+
			"inspected under Fail, and others inspected", sent, lost, unmarked)
	}
}

// TestKilledHolder kills an inspector that reads queues by itself, again and again.
func TestKilledHolder(t *testing.T) {
	eachHeld(t, longest, func(t *testing.T, r *rig) {
		kills := often(10)
		holder := r.hold()
		pods := r.pods(2)
		got, unmarked := r.underMarkedLoad(pods, func() {
			for range kills {
				wait(150 * time.Millisecond)
				last := holder.Process.Pid
				r.kill(holder)
				holder = r.hold()
				for _, p := range pods {
					r.program(p, last)
				}
			}
			wait(150 * time.Millisecond)
		})
		r.wantHeld(got.Sent, got.Lost, unmarked)
	})
}

// TestStoppedHolder stops an inspector that reads queues by itself: its sockets are taken
// back. It goes on with others when it is there again, and has none when the pods are gone.
func TestStoppedHolder(t *testing.T) {
	eachHeld(t, 300*time.Millisecond, func(t *testing.T, r *rig) {
		holder := r.hold()
		before := sockets(t, holder)
		pods := r.pods(2)
		got, unmarked := r.underMarkedLoad(pods, func() {
			wait(150 * time.Millisecond)
			nstest.Must(t, holder.Process.Signal(syscall.SIGSTOP))
			for _, p := range pods {
				r.awaitAway(p)
				r.wantProgramEvent(p, "hangs")
			}
			wait(150 * time.Millisecond)
			nstest.Must(t, holder.Process.Signal(syscall.SIGCONT))
			for _, p := range pods {
				r.program(p, 0)
			}
			wait(150 * time.Millisecond)
		})
		r.wantHeld(got.Sent, got.Lost, unmarked)
		_, err := r.client.DetachAll(t.Context())
		nstest.Must(t, err)
		nstest.Eventually(t, patience, "it has none of the sockets", func() bool {
			return sockets(t, holder) == before
		})
	})
}

// awaitAway waits until no packets go to the pod's program.
func (r *rig) awaitAway(p *pod) {
	r.t.Helper()
	nstest.Eventually(r.t, patience, "a program is away", func() bool {
		d, err := r.client.Describe(r.t.Context(), p.key)
		nstest.Must(r.t, err)
		return len(d.Programs) == 1 && !d.Programs[0].Ready
	})
}

// sockets returns how many a process has.
func sockets(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	found, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
	nstest.Must(t, err)
	return len(found)
}

// TestHolderReconnects restarts, upgrades and kills the daemon: an inspector that reads
// queues by itself connects again, and is given others.
func TestHolderReconnects(t *testing.T) {
	eachHeld(t, longest, func(t *testing.T, r *rig) {
		holder := r.hold()
		pods := r.pods(2)
		again := func() {
			for _, p := range pods {
				if pid := r.program(p, 0); pid != holder.Process.Pid {
					t.Errorf("process %d reads, want %d", pid, holder.Process.Pid)
				}
			}
		}
		got, unmarked := r.underMarkedLoad(pods, func() {
			for _, replace := range r.replacements() {
				wait(400 * time.Millisecond) // as long as a life that the supervisor calls one
				replace()
				again()
			}
			wait(400 * time.Millisecond)
			last := r.status().PID
			nstest.Must(t, syscall.Kill(last, syscall.SIGKILL))
			r.awaitWorker(last)
			again()
		})
		r.wantHeld(got.Sent, got.Lost, unmarked)
	})
}
