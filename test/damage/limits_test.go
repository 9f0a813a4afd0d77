// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// crashLoop is a supervisor whose daemon was replaced by a program that dies.
type crashLoop struct {
	*rig
	hub  *nstest.NetNS
	pods []*nstest.NetNS
	good []byte // the program that works
}

const (
	// brokenCode is how the program that dies ends.
	brokenCode = 7
	brokenPods = 10
)

func newCrashLoop(t *testing.T, policy api.Policy, maxDeaths int) *crashLoop {
	t.Helper()
	c := &crashLoop{rig: newRig(t, policy)}
	var err error
	c.good, err = os.ReadFile(filepath.Join(c.bin, c.inspector))
	nstest.Must(t, err)
	c.worker = filepath.Join(c.dir, "worker")
	nstest.Must(t, replaceFile(c.worker, c.good))
	c.maxDeaths, c.deathWindow = maxDeaths, time.Hour // however slowly it dies
	c.start()
	c.hub, c.pods = nstest.Star(t, brokenPods)
	for i, ns := range c.pods {
		c.attachNetns(api.Key{ContainerID: fmt.Sprintf("pod%d", i), Ifname: "eth0"}, ns)
	}
	c.wantAnswers(brokenPods, patience)
	return c
}

// breakIt has the daemon die from now on.
func (c *crashLoop) breakIt() {
	c.t.Helper()
	nstest.Must(c.t, replaceFile(c.worker, fmt.Appendf(nil, "#!/bin/sh\nexit %d\n", brokenCode)))
	nstest.Must(c.t, syscall.Kill(c.status().PID, syscall.SIGKILL))
}

// wantAnswers expects so many pods to answer once.
func (c *crashLoop) wantAnswers(want int, timeout time.Duration) {
	c.t.Helper()
	if got := pingEach(c.t, c.hub, c.pods, timeout); got != want {
		c.t.Errorf("%d of %d pods answer, want %d", got, len(c.pods), want)
	}
}

// wantNetwork expects the pods to get their network back under Ignore, and to be
// cut off under Fail.
func (c *crashLoop) wantNetwork() {
	c.t.Helper()
	if c.policy == api.Fail {
		c.wantAnswers(0, 1500*time.Millisecond)
		return
	}
	began := time.Now()
	nstest.Eventually(c.t, patience, "pods have their network back", func() bool {
		return pingEach(c.t, c.hub, c.pods, time.Second) == len(c.pods)
	})
	c.t.Logf("pods have their network back after %v", time.Since(began))
}

// wantAdopted expects everything to be as if nothing had been.
func (c *crashLoop) wantAdopted() {
	c.t.Helper()
	if s := c.status(); s.Attachments != len(c.pods) || len(s.Problems) > 0 {
		c.t.Errorf("%d attachments, problems %v", s.Attachments, s.Problems)
	}
	before := c.status().Counters.Packets
	c.wantAnswers(len(c.pods), patience)
	if seen := c.status().Counters.Packets - before; seen < uint64(2*len(c.pods)) {
		c.t.Errorf("%d packets inspected of %d pings and answers", seen, len(c.pods))
	}
}

// queuesHeld is how many pods have a queue whose socket any process holds.
func (c *crashLoop) queuesHeld() int {
	c.t.Helper()
	held := 0
	for _, p := range c.pods {
		if p.Run(c.t, "cat", "/proc/net/netfilter/nfnetlink_queue") != "" {
			held++
		}
	}
	return held
}

// TestCrashLoop has the daemon die at each start. The supervisor gives up in
// the end, and says so; the next one, with a program that works, takes up all.
func TestCrashLoop(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			const deaths = 3
			c := newCrashLoop(t, policy, deaths)
			c.breakIt()
			c.wantNetwork()
			exit, ok := errors.AsType[*exec.ExitError](c.awaitEnd())
			if !ok || exit.ExitCode() != brokenCode {
				t.Errorf("the supervisor ended with %v, want the daemon's exit code %d", exit, brokenCode)
			}
			for _, text := range []string{
				"giving up", "keep their network, those under Fail are cut off",
				fmt.Sprintf("died %d times within %v, exit code %d", deaths, c.deathWindow, brokenCode),
			} {
				if !c.log.Contains(text) {
					t.Errorf("the supervisor does not say %q", text)
				}
			}
			c.wantNetwork()
			nstest.Must(t, replaceFile(c.worker, c.good))
			c.start()
			c.wantAdopted()
		})
	}
}

// TestCrashLoopWithoutEnd has a supervisor that never gives up. It keeps the
// queues of pods under Fail, and closes the others.
func TestCrashLoopWithoutEnd(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			c := newCrashLoop(t, policy, 0)
			c.breakIt()
			c.wantNetwork()
			want := 0
			if policy == api.Fail {
				want = len(c.pods)
			}
			if got := c.queuesHeld(); got != want {
				t.Errorf("the queues of %d of %d pods are kept, want %d", got, len(c.pods), want)
			}
			nstest.Must(t, replaceFile(c.worker, c.good))
			c.awaitWorker(0)
			c.wantAdopted()
		})
	}
}
