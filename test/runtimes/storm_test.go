// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// stormPods is how many pods each node makes at once, and removes at once.
const stormPods = 50

// testStorm makes and removes pods in parallel on both nodes while nsqueued is
// killed, restarted and upgraded, and other pods go on talking.
func testStorm(t *testing.T, c *rig) {
	var talkers []*cri.Pod
	for _, handler := range []string{recorded, stock} {
		for _, n := range c.nodes {
			talkers = append(talkers,
				n.newPod(t, cri.Spec{Name: "talker-" + handler + n.Name, Handler: handler}))
		}
	}
	var streams sync.WaitGroup
	for i, p := range talkers {
		streams.Go(func() { streamThrough(t, p, talkers[i^1]) })
	}
	var nodes sync.WaitGroup
	for _, n := range c.nodes {
		nodes.Go(func() { n.storm(t) })
	}
	nodes.Wait()
	for _, p := range talkers {
		if _, err := p.Exec(t.Context(), "touch", "/tmp/stop"); err != nil {
			t.Error(err)
		}
	}
	streams.Wait()
	for i, n := range c.nodes {
		n.checkInspected(t, talkers[i])
	}
}

// streamThrough has a pod exchange datagrams with another one until it is told
// to stop. None may be lost on the way, whatever becomes of the daemons; what
// the two had no room for when they got it all at once was not lost there.
func streamThrough(t *testing.T, p, peer *cri.Pod) {
	out, err := p.Exec(t.Context(), "podtool", "stream", peer.IPs[0], "/tmp/stop")
	if err != nil {
		t.Error(err)
		return
	}
	var sent, received, stall int
	if _, err := fmt.Sscanf(out, "sent=%d received=%d stall=%dms", &sent, &received, &stall); err != nil {
		t.Errorf("%q: %v", out, err)
	}
	refused := socketFull(t, p) + socketFull(t, peer)
	t.Logf("@@ %s exchanged %d datagrams, %d lost, %d found the sockets full, "+
		"at most %d ms without one", p.Name, sent, sent-received, refused, stall)
	if lost := sent - received; lost > refused {
		t.Errorf("%s lost %d of %d datagrams, %d of them at the sockets", p.Name, lost, sent, refused)
	}
}

// socketFull returns how many datagrams the pod's sockets had no room for.
func socketFull(t *testing.T, p *cri.Pod) int {
	out, err := p.Exec(t.Context(), "cat", "/proc/net/snmp")
	if err != nil {
		t.Error(err)
		return 0
	}
	var in, noPorts, inErrors, sent, full int
	for line := range strings.Lines(out) {
		_, err = fmt.Sscanf(line, "Udp: %d %d %d %d %d", &in, &noPorts, &inErrors, &sent, &full)
		if err == nil {
			return full
		}
	}
	t.Errorf("in %s no counters of UDP in\n%s", p.Name, out)
	return 0
}

// storm is one node's.
func (n *node) storm(t *testing.T) {
	started := time.Now()
	var damage sync.WaitGroup
	damage.Go(func() { n.damage(t) })
	pods := n.runAtOnce(t)
	damage.Wait()
	t.Logf("@@ %s made %d pods at once in %v, its nsqueued killed, restarted and upgraded",
		n.Name, len(pods), time.Since(started).Round(time.Millisecond))
	nstest.Poll(patience, func() bool { return n.count() == stormPods+1 })
	if got := n.count(); got != stormPods+1 {
		t.Errorf("%s: %d pods are attached, want %d", n.Name, got, stormPods+1)
	}
	started = time.Now()
	damage.Go(func() { n.damage(t) })
	var removals sync.WaitGroup
	for _, p := range pods {
		removals.Go(func() {
			if err := p.Remove(lasting(t)); err != nil {
				t.Error(err)
			}
		})
	}
	removals.Wait()
	damage.Wait()
	t.Logf("@@ %s removed them in %v", n.Name, time.Since(started).Round(time.Millisecond))
	nstest.Poll(patience, func() bool { return n.count() == 1 })
	if got := n.count(); got != 1 {
		t.Errorf("%s: %d pods are attached, want the one that talks", n.Name, got)
	}
}

// runAtOnce makes all pods of the storm, sandboxes only.
func (n *node) runAtOnce(t *testing.T) []*cri.Pod {
	var mu sync.Mutex
	var pods []*cri.Pod
	var running sync.WaitGroup
	for i := range stormPods {
		running.Go(func() {
			s := spec(cri.Spec{Name: fmt.Sprintf("storm%d", i)})
			s.Command = nil
			p, err := n.client.Run(t.Context(), s, 0)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pods = append(pods, p)
		})
	}
	running.Wait()
	return pods
}

// count returns how many pods are attached, -1 while nsqueued does not answer.
func (n *node) count() int {
	ctx, cancel := timeout()
	defer cancel()
	l, err := n.daemon.List(ctx)
	if err != nil {
		return -1
	}
	return len(l.Attachments)
}

// damage kills the daemon, restarts it in order, and upgrades it, each when it
// has lived for long enough.
func (n *node) damage(t *testing.T) {
	for _, d := range []struct {
		name    string
		replace func(worker int) error
	}{
		{"kill", func(worker int) error { return syscall.Kill(worker, syscall.SIGKILL) }},
		{"restart", func(worker int) error { return syscall.Kill(worker, syscall.SIGTERM) }},
		{"upgrade", func(int) error { return n.upgrade() }},
	} {
		var before api.Status
		nstest.Poll(patience, func() bool {
			var err error
			before, err = n.status()
			return err == nil && time.Since(before.Started) > life*3/2
		})
		if before.PID == 0 {
			t.Errorf("%s: no nsqueued to %s", n.Name, d.name)
			return
		}
		if err := d.replace(before.PID); err != nil {
			t.Errorf("%s: %s: %v", n.Name, d.name, err)
			return
		}
		if !nstest.Poll(patience, func() bool {
			now, err := n.status()
			return err == nil && now.PID != before.PID
		}) {
			t.Errorf("%s: no nsqueued after %s", n.Name, d.name)
			return
		}
	}
}

// upgrade puts another file in the program's place and has it executed.
func (n *node) upgrade() error {
	const program = "/usr/local/sbin/nsqueued"
	b, err := os.ReadFile(n.File(program))
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.File(program+".new"), b, 0o755); err != nil {
		return err
	}
	if err := os.Rename(n.File(program+".new"), n.File(program)); err != nil {
		return err
	}
	return n.nsqueued.Signal(syscall.SIGUSR2)
}
