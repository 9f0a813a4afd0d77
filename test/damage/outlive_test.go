// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"context"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// awaitAgain waits until the marker is connected with a daemon and answers its packets.
func (r *rig) awaitAgain(marker *exec.Cmd) {
	r.t.Helper()
	r.awaitMarker("is connected again", func(s *api.InspectorState) bool {
		return isMarker(s, marker) && s.Counters.Answered > 0
	})
}

// underMarkedLoad is underLoad, and counts what the marker has not marked.
func (r *rig) underMarkedLoad(pods []*pod, damage func()) (got load.Result, unmarked int) {
	r.t.Helper()
	for _, p := range pods {
		p.countUnmarked(r.t)
	}
	got = r.underLoad(pods, damage)
	for _, p := range pods {
		unmarked += p.unmarked(r.t)
	}
	r.t.Logf("%d sent, %d lost, %d not inspected", got.Sent, got.Lost, unmarked)
	return got, unmarked
}

// TestInspectorReconnects restarts, upgrades and kills the daemon: the inspector outside
// connects again by itself. Nothing is lost under Ignore, nothing passes uninspected under
// Fail.
func TestInspectorReconnects(t *testing.T) {
	for policy, transport := range map[api.Policy]string{
		api.Ignore: "memfd", api.Fail: "messages",
	} {
		t.Run(string(policy), func(t *testing.T) {
			r := newOutside(t, policy, transport)
			marker := r.mark()
			got, unmarked := r.underMarkedLoad(r.pods(2), func() {
				for _, replace := range r.replacements() {
					wait(400 * time.Millisecond) // as long as a life that the supervisor calls one
					replace()
					r.awaitAgain(marker)
				}
				wait(400 * time.Millisecond)
				last := r.status().PID
				nstest.Must(t, syscall.Kill(last, syscall.SIGKILL))
				r.awaitWorker(last)
				r.awaitAgain(marker)
			})
			if policy == api.Ignore && got.Lost > 0 || policy == api.Fail && unmarked > 0 {
				t.Errorf("%d lost, %d not inspected; want none lost under Ignore, none not "+
					"inspected under Fail", got.Lost, unmarked)
			}
		})
	}
}

// TestInspectorFollowsHandOver has one supervisor hand over to another, and take back: the
// inspector outside connects to the daemon that serves.
func TestInspectorFollowsHandOver(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		t.Run(string(policy), func(t *testing.T) {
			c := newContainers(t, policy)
			c.withMarker("messages")
			c.writeConfig()
			s := c.succeed(patience)
			marker := s.mark()
			s.busy = s.pods(2)
			got, unmarked := s.underMarkedLoad(s.busy, func() {
				for _, handOver := range []func(){s.rollOut, s.giveBack} {
					wait(200 * time.Millisecond)
					handOver()
					s.awaitAgain(marker)
				}
			})
			if policy == api.Ignore && got.Lost > 0 || policy == api.Fail && unmarked > 0 {
				t.Errorf("%d lost, %d not inspected; want none lost under Ignore, none not "+
					"inspected under Fail", got.Lost, unmarked)
			}
		})
	}
}

// TestProgramsFollowHandOver has one supervisor hand over to another, and take back, in the
// PID namespace of the node, as programs need it: they read on as the same processes, and
// neither loses a packet nor lets one pass.
func TestProgramsFollowHandOver(t *testing.T) {
	for policy, path := range map[api.Policy]string{api.Ignore: "Direct", api.Fail: "Behind"} {
		t.Run(string(policy)+" "+path, func(t *testing.T) {
			c := newContainers(t, policy)
			t.Cleanup(c.stopAll)
			c.hostPID = true
			c.withProgram(path, longest)
			c.writeConfig()
			s := c.succeed(100 * time.Millisecond)
			s.busy = s.pods(3)
			before := s.programs(s.busy)
			got := s.underTraffic(s.busy, func() {
				for _, handOver := range []func(){s.rollOut, s.giveBack} {
					wait(200 * time.Millisecond)
					handOver()
				}
				wait(200 * time.Millisecond)
			})
			if after := s.programs(s.busy); !slices.Equal(before, after) {
				t.Errorf("programs are processes %v, were %v", after, before)
			}
			if got.Lost > 0 || got.Uninspected > 0 {
				t.Errorf("%v; want none lost or uninspected", got.Result)
			}
			s.wantNoProgramsAfter(s.busy)
		})
	}
}

// stopAll ends the supervisors in order: where they are not process 1, nothing ends their
// daemons with them.
func (c *containers) stopAll() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.client.DetachAll(ctx)
	c.check(err)
	for _, one := range c.all {
		if !one.Ended() {
			c.check(one.Stop())
		}
	}
}
