// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestStoppedWorker makes the daemon hang. Its supervisor's watchdog must
// notice, and nothing but a pause may come of it.
func TestStoppedWorker(t *testing.T) {
	r := newRig(t, api.Fail)
	r.watchdog = time.Second
	r.start()
	pods := r.pods(3)
	orphans := 0
	got := r.underLoad(pods, func() {
		before := r.status().PID
		nstest.Must(t, syscall.Kill(before, syscall.SIGSTOP))
		orphans = int(r.awaitWorker(before).Orphans)
		wait(time.Second)
	})
	if got.Uninspected > 0 || got.Lost > orphans {
		t.Errorf("%v, with %d orphans", got, orphans)
	}
}

// replacements are the ways in which a daemon follows another in order.
func (r *rig) replacements() map[string]func() {
	return map[string]func(){
		"restart": func() {
			before := r.status().PID
			nstest.Must(r.t, syscall.Kill(before, syscall.SIGTERM))
			r.awaitWorker(before)
		},
		"upgrade": func() {
			before := r.status().PID
			r.replaceProgram()
			nstest.Must(r.t, r.supervisor.Process.Signal(syscall.SIGUSR2))
			r.awaitWorker(before)
		},
	}
}

// replaceProgram puts another file in the supervisor's place, as a package
// manager does.
func (r *rig) replaceProgram() {
	r.t.Helper()
	b, err := os.ReadFile(r.supervisor.Path)
	nstest.Must(r.t, err)
	nstest.Must(r.t, replaceFile(r.supervisor.Path, b))
}

// TestReplacedInOrder restarts and upgrades the daemon under load: nothing is
// lost, nothing passes uninspected, with many idle pods beside the busy ones too.
func TestReplacedInOrder(t *testing.T) {
	for _, idle := range []int{0, often(1000)} {
		t.Run(fmt.Sprintf("%d idle pods", idle), func(t *testing.T) {
			r := newRig(t, api.Fail)
			r.start()
			for i := range idle {
				r.attachNetns(api.Key{ContainerID: fmt.Sprintf("idle%d", i), Ifname: "eth0"}, nstest.New(t))
			}
			pods := r.pods(3)
			for name, replace := range r.replacements() {
				if err := r.replaceUnderLoad(pods, replace); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if s := r.status(); s.Attachments != idle+3 || len(s.Problems) > 0 {
					t.Errorf("%s: %d attachments, problems %v", name, s.Attachments, s.Problems)
				}
			}
		})
	}
}

func (r *rig) replaceUnderLoad(pods []*pod, replace func()) error {
	got := r.underLoad(pods, func() {
		for range max(times(r.t), often(3)) {
			wait(400 * time.Millisecond) // as long as a life that the supervisor calls one
			replace()
		}
	})
	if s := r.status(); got.Lost > 0 || got.Uninspected > 0 || s.Orphans > 0 {
		return fmt.Errorf("%v, %d orphans; want nothing lost or uninspected", got, s.Orphans)
	}
	return nil
}

// TestEverybodyKilled kills the supervisor with its daemon. What then holds is
// in the kernel alone.
func TestEverybodyKilled(t *testing.T) {
	many := often(250)
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			r := newRig(t, policy)
			r.start()
			hub, pods := nstest.Star(t, many)
			for i, ns := range pods {
				r.attachNetns(api.Key{ContainerID: fmt.Sprintf("pod%d", i), Ifname: "eth0"}, ns)
			}
			if got := pingEach(t, hub, pods, patience); got != many {
				t.Fatalf("%d of %d pods answer", got, many)
			}
			// The daemon first: its supervisor must not start another.
			worker := r.status().PID
			nstest.Must(t, r.supervisor.Process.Signal(syscall.SIGSTOP))
			nstest.Must(t, syscall.Kill(worker, syscall.SIGKILL))
			killed := time.Now()
			var exit *exec.ExitError
			if err := r.stop(syscall.SIGKILL); !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if policy == api.Ignore {
				nstest.Eventually(t, patience, "pods have their network back", func() bool {
					return pingEach(t, hub, pods, time.Second) == many
				})
				t.Logf("%d pods have their network back after %v", many, time.Since(killed))
			} else if got := pingEach(t, hub, pods, 300*time.Millisecond); got != 0 {
				t.Errorf("%d of %d pods pass packets uninspected", got, many)
			}
			r.start()
			if s := r.status(); s.Attachments != many || len(s.Problems) > 0 {
				t.Errorf("the next daemon has %d attachments, problems %v", s.Attachments, s.Problems)
			}
			if got := pingEach(t, hub, pods, patience); got != many {
				t.Errorf("%d of %d pods answer after the new start", got, many)
			}
		})
	}
}

// atOnce is how many answers to pings may wait at the same time. The kernel sends
// those of all netns by one socket for each processor. It holds some 150 of them,
// and while they wait for a verdict the kernel drops further ones.
const atOnce = 100

// pingEach pings pods, many at once, and returns how many answer in time.
func pingEach(t *testing.T, hub *nstest.NetNS, pods []*nstest.NetNS, timeout time.Duration) int {
	t.Helper()
	var answered atomic.Int64
	var pings sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, p := range pods {
		places <- struct{}{}
		pings.Go(func() {
			defer func() { <-places }()
			answered.Add(int64(hub.Ping(t, p.IPv4(), 1, timeout)))
		})
	}
	pings.Wait()
	return int(answered.Load())
}
