// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/damage/load"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// containers is a rig whose supervisors run in containers, beside each other or one
// after the other. They share the rig's directory, and the netns of the node.
type containers struct {
	*rig

	// flags are the supervisors'.
	flags []string
	// program is that of the supervisors, below bin.
	program string
	// hostPID has them in the PID namespace of the node.
	hostPID bool

	all []*chain.Container
}

func newContainers(t *testing.T, policy api.Policy) *containers {
	t.Helper()
	nstest.ShareNetnsDirectory(t)
	return newContainersBeside(t, policy)
}

// newContainersBeside is newContainers for a test that has called [nstest.ShareNetnsDirectory].
func newContainersBeside(t *testing.T, policy api.Policy) *containers {
	t.Helper()
	c := &containers{rig: newRig(t, policy), program: nsqueued}
	c.writeConfig()
	t.Cleanup(c.endAll)
	return c
}

// enter starts a supervisor in a container.
func (c *containers) enter(env ...string) *chain.Container {
	c.t.Helper()
	flags := []string{"--max-deaths", "0", "--death-window", c.deathWindow.String()}
	if c.inspector != nsqueued {
		flags = append(flags, "--worker", cmp.Or(c.worker, filepath.Join(c.bin, c.inspector)))
	}
	started, err := chain.StartContainer(chain.SupervisorConfig{
		Program:    filepath.Join(c.bin, c.program),
		RuntimeDir: filepath.Join(c.dir, "own"),
		Flags:      append(flags, c.flags...),
		Args:       []string{"--config", c.configFile()},
		Env:        env,
		HostPID:    c.hostPID,
	})
	nstest.Must(c.t, err)
	c.all = append(c.all, started)
	return started
}

// awaitReady waits until a daemon of the container serves that has not when the log was
// reset.
func (c *containers) awaitReady(one *chain.Container) {
	c.t.Helper()
	nstest.Eventually(c.t, patience, "a daemon serves in the container", func() bool {
		return one.Log.Contains("daemon ready") || one.Ended()
	})
	if one.Ended() {
		c.t.Fatalf("the supervisor has ended: %v", one.Wait())
	}
}

// daemon returns the process of the container's daemon in the node.
func (c *containers) daemon(one *chain.Container) int {
	c.t.Helper()
	pid, err := one.Daemon()
	nstest.Must(c.t, err)
	return pid
}

// endAll detaches what is attached and ends all containers.
func (c *containers) endAll() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if slices.ContainsFunc(c.all, func(one *chain.Container) bool { return !one.Ended() }) {
		_, err := c.client.DetachAll(ctx)
		c.check(err)
	}
	for _, one := range c.all {
		c.check(one.Kill())
	}
	if !c.t.Failed() {
		return
	}
	for i, one := range c.all {
		c.t.Logf("container %d:\n%s", i+1, tail(one.Log.String(), 8000))
	}
}

// idle attaches pods that have no packets.
func (c *containers) idle(n int) {
	c.t.Helper()
	for i := range n {
		key := api.Key{ContainerID: fmt.Sprintf("idle%d", i), Ifname: "eth0"}
		c.attachNetns(key, nstest.New(c.t))
	}
}

// outcome is what became of the traffic.
type outcome struct {
	load.Result
	// tcp is the longest time in which the stream stood still.
	tcp time.Duration
}

// underTraffic is underLoad with a TCP stream to the first pod beside.
func (c *containers) underTraffic(pods []*pod, damage func()) outcome {
	c.t.Helper()
	const rate = 25 << 20 // bytes a second
	first := pods[0]
	l := first.ListenTCP(c.t, netip.AddrPortFrom(first.IPv4(), 0).String())
	from := first.peer.DialTCP(c.t, l.Addr().String())
	to, err := l.Accept()
	nstest.Must(c.t, err)
	defer to.Close()
	tcp := load.NewStream(from, to, rate)
	var running sync.WaitGroup
	running.Go(func() { c.check(tcp.Send()) })
	running.Go(func() { c.check(tcp.Receive()) })
	got := c.underLoad(pods, damage)
	tcp.Stop()
	running.Wait()
	if tcp.Lost() != 0 {
		c.t.Errorf("%d bytes of the stream are lost", tcp.Lost())
	}
	c.t.Logf("TCP stood still for at most %v", tcp.Stall().Round(time.Millisecond))
	return outcome{got, tcp.Stall()}
}

// TestContainer kills the daemon of a supervisor in a container, and restarts it in
// order. Nothing but a pause comes of it, but for what the killed one had in its hands.
func TestContainer(t *testing.T) {
	const idle, times = 50, 3
	c := newContainers(t, api.Fail)
	only := c.enter()
	c.awaitReady(only)
	c.idle(idle)
	pods := c.pods(3)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		orphans := 0
		got := c.underTraffic(pods, func() {
			for range times {
				wait(400 * time.Millisecond)
				only.Log.Reset()
				nstest.Must(t, syscall.Kill(c.daemon(only), s))
				c.awaitReady(only)
				orphans += int(c.status().Orphans)
			}
		})
		if got.Uninspected > 0 || got.Lost > orphans || s == syscall.SIGTERM && orphans > 0 {
			t.Errorf("%v: %v, %d orphans", s, got, orphans)
		}
		if s := c.status(); s.Attachments != idle+len(pods) || len(s.Problems) > 0 {
			t.Errorf("%d attachments, problems %v", s.Attachments, s.Problems)
		}
	}
	_, err := c.client.DetachAll(t.Context())
	nstest.Must(t, err)
	nstest.Must(t, only.Stop())
}
