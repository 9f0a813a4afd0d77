// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// A crowd is many flows into one pod, from one socket.
type crowd struct {
	*raw
	pod *pod
	*reader
}

func newCrowd(t *testing.T, n *node, p *pod) *crowd {
	t.Helper()
	// A first packet finds the neighbour, so that later ones do not wait.
	if n.Ping(t, p.v4, 1, delivery) != 1 {
		t.Fatal("the pod does not answer")
	}
	return &crowd{n.openRaw(t, n.v4), p, p.newReader(t, 80)}
}

// send sends one packet of each of the flows with these numbers.
func (c *crowd) send(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		c.raw.send(t, c.pod.v4, unix.IPPROTO_UDP, ports(uint16(i), uint16(i>>4)))
	}
}

// sendAndGrow sends one packet of each of so many flows and waits for the
// counters and for all verdicts.
func (c *crowd) sendAndGrow(t *testing.T, flows int, want map[string]int) {
	t.Helper()
	before := c.pod.status(t)
	c.send(t, 0, flows)
	nstest.Eventually(t, patience, "all packets are counted and answered", func() bool {
		now := c.pod.status(t)
		return now.count(t, "seen")-before.count(t, "seen") >= flows &&
			c.answered.Load() == int64(now.count(t, "queued"))
	})
	c.pod.awaitGrown(t, before, want)
}

// settleTimeout is a number of milliseconds in the form that the module takes.
func settleTimeout(d time.Duration) string {
	return strconv.FormatInt(nstest.Patient(d).Milliseconds(), 10)
}

// settling arms the pod with those settings; every verdict asks for its flow.
func (c *crowd) settling(t *testing.T, timeout time.Duration, size int) {
	t.Helper()
	p := c.pod
	c.request.Store(requestAccept)
	stop := c.serve(nil)
	t.Cleanup(func() { stop() })
	p.set(t, "directions", "in")
	p.set(t, "protocols", "udp")
	p.set(t, "settle_timeout", settleTimeout(timeout))
	p.set(t, "settle_size", strconv.Itoa(size))
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
}

func TestSettleFills(t *testing.T) {
	const size, all = 2000, 3000
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	c := newCrowd(t, n, p)
	c.settling(t, time.Hour, size)
	if !slabs(t) {
		t.Error("there is no memory for flows")
	}
	c.sendAndGrow(t, all, map[string]int{"queued": all, "settled": 0, "flows": size})
	c.sendAndGrow(t, all, map[string]int{"queued": all - size, "settled": size, "flows": 0})

	// Every write of a setting begins again, also one that changes nothing.
	for _, s := range []struct{ name, value string }{
		{"generation", "1"}, {"settle_timeout", settleTimeout(time.Hour)}, {"settle_size", "2000"},
	} {
		p.set(t, s.name, s.value)
		if got := p.status(t)["flows"]; got != "0" {
			t.Errorf("%s flows after writing %s", got, s.name)
		}
		c.sendAndGrow(t, 10, map[string]int{"queued": 10, "settled": 0, "flows": 10})
	}
	// Other settings leave them.
	p.set(t, "bypass", "1")
	p.set(t, "enabled", "0")
	p.set(t, "enabled", "1")
	p.awaitFlows(t, 10)
	p.set(t, "generation", "0")
	p.awaitFlows(t, 0)
	c.sendAndGrow(t, 10, map[string]int{"queued": 10, "settled": 0, "flows": 0})

	if err := rmmod(); err != nil {
		t.Fatal(err)
	}
	if slabs(t) {
		t.Error("there is memory for flows after unloading")
	}
}

// Memory comes back by itself, and room with it.
func TestSettleExpires(t *testing.T) {
	const size = 200
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	c := newCrowd(t, n, p)
	c.settling(t, 3*time.Second, size)
	for range 2 {
		c.send(t, 0, size)
		p.awaitFlows(t, size)
		p.awaitFlows(t, 0)
	}
	c.send(t, 0, size)
	p.awaitFlows(t, size)
	// There is no room for this one until others expire.
	before := p.status(t).count(t, "settled")
	nstest.Eventually(t, patience, "another flow is settled", func() bool {
		c.send(t, size, size+1)
		return p.status(t).count(t, "settled") > before
	})
}

// Packets that carry forged requests from the beginning meet every moment of
// switching on and off.
func TestSettleForgedWhileSwitching(t *testing.T) {
	const rounds = 60
	load(t, "queue_bypass=1")
	n := newNode(t)
	p := n.newPod(t)
	for _, request := range []uint32{requestAccept, requestDrop} {
		from := p.listenUDP(t, p.v4, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, int(request))
		})
		to := n.listenUDP(t, n.v4)
		stop := flood(from, to)
		for i := range rounds {
			on, off := "generation", "0"
			switch i % 3 {
			case 1:
				on = "enabled"
			case 2:
				on, off = "directions", "in"
			}
			p.set(t, "generation", "1")
			p.set(t, on, off)
			p.set(t, "directions", "all")
			p.set(t, "enabled", "1")
			p.set(t, "generation", "1")
			if got := p.status(t)["flows"]; got != "0" {
				t.Fatalf("round %d: %s flows were settled by the pod", i, got)
			}
		}
		stop()
		p.set(t, "enabled", "0")
	}
	if got := p.status(t)["settled"]; got != "0" {
		t.Errorf("%s packets of settled flows", got)
	}
}

// The module goes, or the netns, while flows are settled and looked up.
func TestUnloadWithFlows(t *testing.T) {
	const rounds, flows = 15, 3000
	unloadAtEnd(t)
	n := newNode(t)
	p := n.newPod(t)
	c := newCrowd(t, n, p)
	var done atomic.Bool
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; !done.Load(); i++ {
			body := ports(uint16(i%flows), 2000)
			_ = c.trySend(p.v4, c.packet(p.v4, unix.IPPROTO_UDP, 0, body)) // may be dropped
		}
	})
	defer func() { done.Store(true); group.Wait() }()
	for round := range rounds {
		if err := insmod("protocols=udp directions=in"); err != nil {
			t.Fatal(err)
		}
		c.request.Store(requestAccept)
		stop := c.serve(nil)
		p.set(t, "enabled", "1")
		timeouts := []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, time.Minute}
		p.set(t, "settle_timeout", settleTimeout(timeouts[round%3]))
		for range 3 {
			p.set(t, "generation", "1")
			nstest.Eventually(t, patience, "flows are settled", func() bool {
				return p.status(t).count(t, "flows") > 5
			})
		}
		if err := rmmod(); err != nil {
			t.Fatalf("unload %d: %v", round, err)
		}
		stop()
		if slabs(t) {
			t.Errorf("round %d: there is memory for flows after unloading", round)
		}
	}
}
