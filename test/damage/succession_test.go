// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// timesEnv is the variable that says how often each way of handing over is tried; above 1
// each of them under both failure policies.
const timesEnv = "NSQUEUE_HANDOVERS"

func times(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(timesEnv), "1"))
	if err != nil || n < 1 {
		t.Fatalf("%s: %q, want a number above 0", timesEnv, os.Getenv(timesEnv))
	}
	return n
}

// succession is supervisors in containers that hand over to each other. Between two
// attempts one is active, and no other one is there.
type succession struct {
	*containers

	active *chain.Container
	// standby is nil for none.
	standby *chain.Container
	busy    []*pod
	// env is the supervisors'.
	env []string
}

const (
	roleActive  = "active"
	roleStandby = "standby"
	// idlePods have no packets.
	idlePods = 250
)

func newSuccession(t *testing.T, policy api.Policy) *succession {
	t.Helper()
	c := newContainers(t, policy)
	chain.BinDir(t, faultySupervisor, faultyStamper)
	c.program = faultySupervisor
	s := c.succeed(patience)
	s.idle(idlePods)
	s.busy = s.pods(3)
	return s
}

// succeed starts the first of supervisors that hand over to each other.
func (c *containers) succeed(linger time.Duration) *succession {
	c.t.Helper()
	s := c.beSucceeded(linger)
	s.begin()
	return s
}

// beSucceeded is succeed for a test that calls begin when all is arranged.
func (c *containers) beSucceeded(linger time.Duration) *succession {
	c.t.Helper()
	s := &succession{containers: c}
	s.flags = []string{
		"--handover-dir", s.dir, "--linger", linger.String(), "--instance", "test/nsqueue",
	}
	return s
}

// begin starts the first supervisor.
func (s *succession) begin() {
	s.t.Helper()
	s.active = s.enterWith("")
	s.awaitRole(s.active, roleActive)
	s.status()
}

// Programs that stop where a file tells them to.
const (
	faultySupervisor = "test/nsqueued-faults"
	faultyStamper    = "test/stamper-faults"
)

// lend has a test use the supervisors until its end.
func (s *succession) lend(t *testing.T) {
	t.Helper()
	outer := s.t
	s.t = t
	t.Cleanup(func() { s.t = outer })
}

// enterWith starts one more supervisor, which stops at the point.
func (s *succession) enterWith(point string) *chain.Container {
	s.t.Helper()
	file := s.faultFile(len(s.all))
	if point != "" {
		nstest.Must(s.t, os.WriteFile(file, []byte(point), 0o600))
	}
	return s.enter(append([]string{"NSQUEUE_FAULT=" + file}, s.env...)...)
}

func (s *succession) faultFile(i int) string {
	return filepath.Join(s.dir, fmt.Sprintf("fault-%d", i))
}

// stopAt has the supervisor stop at the point.
func (s *succession) stopAt(one *chain.Container, point string) {
	s.t.Helper()
	file := s.faultFile(slices.Index(s.all, one))
	nstest.Must(s.t, os.WriteFile(file, []byte(point), 0o600))
}

// awaitStop waits until the supervisor stops at its point: process 1 does not die of a
// signal that it sends itself, and waits for one of the node's.
func (s *succession) awaitStop(one *chain.Container) {
	s.t.Helper()
	file := s.faultFile(slices.Index(s.all, one))
	nstest.Eventually(s.t, patience, "a supervisor comes to its point", func() bool {
		_, err := os.Stat(file)
		return errors.Is(err, os.ErrNotExist)
	})
}

func (s *succession) awaitRole(one *chain.Container, role string) {
	s.t.Helper()
	var last string
	there := nstest.Poll(patience, func() bool {
		if one.Ended() {
			return true
		}
		last = one.Role()
		return last == role
	})
	if one.Ended() {
		s.t.Fatalf("the supervisor that is to be %s has ended: %v", role, one.Wait())
	}
	if !there {
		s.t.Fatalf("the supervisor is %s for %v, want %s", last, patience, role)
	}
}

// take has a new supervisor take over. The one before it stands by, and holds nothing.
func (s *succession) take() {
	s.t.Helper()
	next := s.enterWith("")
	s.awaitRole(next, roleActive)
	s.awaitRole(s.active, roleStandby)
	s.active, s.standby = next, s.active
	nstest.Eventually(s.t, patience, "the standby holds no descriptor of a pod", func() bool {
		u, err := chain.UsageOf(s.standby.PID())
		nstest.Must(s.t, err)
		return len(u.Files) < len(s.busy)+idlePods
	})
}

// retire ends the standby, of which the active one's daemon notices nothing.
func (s *succession) retire() {
	s.t.Helper()
	s.unnoticed(func() { nstest.Must(s.t, s.standby.Stop()) })
	s.standby = nil
}

// unnoticed expects the active one's daemon to be the same after something.
func (s *succession) unnoticed(what func()) {
	s.t.Helper()
	before := s.daemon(s.active)
	what()
	s.status()
	if after := s.daemon(s.active); before != after || before == 0 {
		s.t.Errorf("daemon %d serves, want %d as before", after, before)
	}
}

// rollOut is what a rollout does to a node.
func (s *succession) rollOut() {
	s.take()
	s.retire()
}

// giveBack is a rollback: the one that has taken over is told to end.
func (s *succession) giveBack() {
	s.t.Helper()
	s.take()
	s.leave(s.active)
	s.awaitRole(s.standby, roleActive)
	nstest.Must(s.t, s.active.Wait())
	s.active, s.standby = s.standby, nil
}

// leave tells a supervisor to end.
func (s *succession) leave(one *chain.Container) {
	s.t.Helper()
	nstest.Must(s.t, one.Signal(syscall.SIGTERM))
}

// linger is a pod that is deleted: it serves until its successor has come.
func (s *succession) linger() {
	s.t.Helper()
	leaving := s.active
	s.unnoticed(func() {
		s.leave(leaving)
		wait(300 * time.Millisecond)
	})
	next := s.enterWith("")
	s.awaitRole(next, roleActive)
	nstest.Must(s.t, leaving.Wait())
	s.active = next
}

// refuseBroken starts a supervisor whose daemon cannot even start.
func (s *succession) refuseBroken() {
	s.t.Helper()
	broken := filepath.Join(s.dir, "broken")
	nstest.Must(s.t, replaceFile(broken, fmt.Appendf(nil, "#!/bin/sh\nexit %d\n", brokenCode)))
	s.unnoticed(func() { s.wantFailure(broken) })
}

// abort starts a supervisor whose daemon dies when it restores the first attachment.
func (s *succession) abort() {
	s.t.Helper()
	before := s.daemon(s.active)
	s.wantFailure(filepath.Join(s.bin, faultyStamper))
	s.awaitRole(s.active, roleActive)
	s.status()
	if s.daemon(s.active) == before {
		s.t.Error("the hand-over failed before it began")
	}
}

// wantFailure starts a supervisor with a daemon that does not work, and expects it to end
// with an error.
func (s *succession) wantFailure(worker string) {
	s.t.Helper()
	before := s.worker
	s.worker = worker
	next := s.enterWith("attach: recorded")
	s.worker = before
	if err := next.Wait(); err == nil {
		s.t.Error("a supervisor whose daemon does not work ends well")
	}
}

// killTaker returns what kills a supervisor that takes over, with its daemon. The other
// one goes on.
func killTaker(point string) func(*succession) {
	return func(s *succession) {
		s.t.Helper()
		next := s.enterWith(point)
		s.awaitStop(next)
		nstest.Must(s.t, next.Kill())
		s.awaitRole(s.active, roleActive)
		s.status()
	}
}

// killGiver returns what kills the one that gives, with its daemon.
func killGiver(point string) func(*succession) {
	return func(s *succession) {
		s.t.Helper()
		s.stopAt(s.active, point)
		next := s.enterWith("")
		s.awaitStop(s.active)
		nstest.Must(s.t, s.active.Kill())
		s.awaitRole(next, roleActive)
		s.active = next
		s.status()
	}
}

// killStandby kills the one that has given.
func (s *succession) killStandby() {
	s.t.Helper()
	s.take()
	s.unnoticed(func() { nstest.Must(s.t, s.standby.Kill()) })
	s.standby = nil
}

// killActive kills the one that has taken over.
func (s *succession) killActive() {
	s.t.Helper()
	s.take()
	killed := time.Now()
	nstest.Must(s.t, s.active.Kill())
	s.awaitRole(s.standby, roleActive)
	s.active, s.standby = s.standby, nil
	s.status()
	s.t.Logf("the standby serves %v later", time.Since(killed).Round(time.Millisecond))
}

// killDaemon kills the daemon of one that has a standby.
func (s *succession) killDaemon() {
	s.t.Helper()
	s.take()
	s.awaitReady(s.active) // its log says so after its role does
	s.active.Log.Reset()
	nstest.Must(s.t, syscall.Kill(s.daemon(s.active), syscall.SIGKILL))
	s.awaitReady(s.active)
	s.retire()
}

// killStopping has the daemon hang that is to be followed: its supervisor kills it when it
// is to end.
func (s *succession) killStopping() {
	s.t.Helper()
	nstest.Must(s.t, syscall.Kill(s.daemon(s.active), syscall.SIGSTOP))
	s.take()
	s.retire()
}

// cost is what a hand-over may cost at most.
type cost int

const (
	// nothing: no packet is lost, and none passes uninspected.
	nothing cost = iota
	// inHands: only what a daemon that was killed had in its hands.
	inHands
	// waiting: a process held the queues alone and died. What waited is lost; Fail
	// holds, and all pods are inspected again.
	waiting
)

// handOver is one way of handing over. It begins and ends with one supervisor.
type handOver struct {
	name string
	cost cost
	do   func(*succession)
}

func orderly() []handOver {
	return []handOver{
		{"taken over", nothing, (*succession).rollOut},
		{"given back", nothing, (*succession).giveBack},
		{"lingering", nothing, (*succession).linger},
		{"daemon does not start", nothing, (*succession).refuseBroken},
		{"aborted", inHands, (*succession).abort},
		{"standby killed", nothing, (*succession).killStandby},
		{"daemon killed beside a standby", inHands, (*succession).killDaemon},
		{"daemon hangs", inHands, (*succession).killStopping},
	}
}

// killed are all points at which one of two dies.
func killed() []handOver {
	list := []handOver{{"active one killed", waiting, (*succession).killActive}}
	for _, k := range []struct {
		points []string
		cost   cost
		kill   func(point string) func(*succession)
	}{
		{
			[]string{
				"take: connected", "take: offered", "take: daemon prepared",
				"take: descriptors received", "take: copies received",
				"take: copies seen by the daemon", "take: sent", "take: all received",
				"take: have sent",
			}, nothing, killTaker,
		},
		// The new daemon has begun.
		{[]string{"take: delivered to the daemon", "take: daemon ready"}, inHands, killTaker},
		{
			[]string{
				"give: connected", "give: offered", "give: about to copy", "give: copied",
				"give: daemon told to stop",
				"give: daemon stopped", "give: about to send",
			}, waiting, killGiver,
		},
		{
			[]string{
				"give: all sent", "give: have received", "give: ready received", "give: let go",
			}, nothing, killGiver,
		},
	} {
		for _, point := range k.points {
			list = append(list, handOver{"killed, " + point, k.cost, k.kill(point)})
		}
	}
	return list
}

// TestHandOver has supervisors hand over to each other under load, in all ways that there
// are. A short run tries a third of the points at which one of them dies.
func TestHandOver(t *testing.T) {
	for i, policy := range []api.Policy{api.Fail, api.Ignore} {
		t.Run(string(policy), func(t *testing.T) {
			s := newSuccession(t, policy)
			var list []handOver
			for j, h := range orderly() {
				// What may cost packets is judged by the policy.
				if times(t) > 1 || h.cost == inHands || j%2 == i {
					list = append(list, h)
				}
			}
			for j, h := range killed() {
				if times(t) > 1 || j%2 == i && (!testing.Short() || j%3 == 0) {
					list = append(list, h)
				}
			}
			for _, h := range list {
				if !t.Run(h.name, func(t *testing.T) { s.repeat(t, &h) }) {
					return // it may have left anything behind
				}
			}
		})
	}
}

func (s *succession) repeat(t *testing.T, h *handOver) {
	s.lend(t)
	for range times(t) {
		if err := s.try(h); err != nil {
			s.t.Error(err)
		}
	}
}

// try hands over under load, and compares what it costs with what it may.
func (s *succession) try(h *handOver) error {
	s.t.Helper()
	before, status := s.daemon(s.active), s.status()
	s.silence = 0
	if h.cost == waiting {
		s.silence = time.Second // how many are lost does not matter
	}
	got := s.underTraffic(s.busy, func() {
		wait(200 * time.Millisecond)
		h.do(s)
		wait(400 * time.Millisecond)
	})
	after := s.status()
	if want := len(s.busy) + idlePods; after.Attachments != want || len(after.Problems) > 0 {
		s.t.Errorf("%d attachments, problems %v; want %d", after.Attachments, after.Problems, want)
	}
	if got.tcp > patience {
		s.t.Errorf("TCP stood still for %v", got.tcp)
	}
	orphans := int(after.Orphans)
	if s.daemon(s.active) == before {
		orphans -= int(status.Orphans)
	}
	return h.judge(s.policy, &got, orphans)
}

// judge says what was too much.
func (h *handOver) judge(policy api.Policy, got *outcome, orphans int) error {
	lost, uninspected := 0, 0
	switch {
	case h.cost == nothing && orphans > 0:
		return fmt.Errorf("%d orphans, want none", orphans)
	case h.cost == inHands && policy == api.Fail:
		lost = orphans
	case h.cost == inHands:
		uninspected = orphans
	case h.cost == waiting:
		lost = got.Sent
		if policy == api.Ignore {
			uninspected = got.Sent
		}
	}
	if got.Lost > lost || got.Uninspected > uninspected {
		return fmt.Errorf("%v; want at most %d lost and %d uninspected", got.Result, lost,
			uninspected)
	}
	return nil
}

// TestLastStop stops a supervisor that nothing follows. Pods under Ignore have their
// network back, without a loss; those under Fail are cut off.
func TestLastStop(t *testing.T) {
	for _, policy := range []api.Policy{api.Fail, api.Ignore} {
		t.Run(string(policy), func(t *testing.T) {
			c := newContainers(t, policy)
			c.flags = []string{"--handover-dir", c.dir, "--linger", "100ms"}
			only := c.enter()
			c.awaitReady(only)
			pods := c.pods(3)
			if policy == api.Fail {
				nstest.Must(t, only.Stop())
				for _, p := range pods {
					if got := p.peer.Ping(t, p.IPv4(), 1, 300*time.Millisecond); got != 0 {
						t.Error("a packet passes uninspected")
					}
				}
			} else {
				got := c.underTraffic(pods, func() {
					wait(200 * time.Millisecond)
					nstest.Must(t, only.Stop())
					wait(200 * time.Millisecond)
				})
				if got.Lost > 0 || got.Uninspected == 0 {
					t.Errorf("%v; want none lost, and later ones uninspected", got.Result)
				}
			}
			c.awaitReady(c.enter())
			if s := c.status(); s.Attachments != len(pods) || len(s.Problems) > 0 {
				t.Errorf("the next daemon has %d attachments, problems %v", s.Attachments, s.Problems)
			}
		})
	}
}
