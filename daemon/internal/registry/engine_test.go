// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// With several queues, flows spread over them, each flow in order, and what
// one reader does not answer holds up no other.
func TestSeveralQueues(t *testing.T) {
	const flows, each = 16, 20
	d := start(t, inspect.AcceptAll{})
	d.queues = 4
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	if len(a.Queues) != 4 || len(stats(t, pod)) != 4 {
		t.Fatalf("queues %v, bound %v", a.Queues, stats(t, pod))
	}
	for i := range flows {
		to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
		from := pod.DialUDP(t, to.LocalAddr().String())
		for n := range each {
			_, err := fmt.Fprint(from, n)
			nstest.Must(t, err)
		}
		buf := make([]byte, 16)
		for n := range each {
			nstest.Must(t, to.SetReadDeadline(time.Now().Add(reply)))
			got, err := to.Read(buf)
			if err != nil || string(buf[:got]) != fmt.Sprint(n) {
				t.Fatalf("flow %d: %q, %v, want %d", i, buf[:got], err, n)
			}
		}
	}
	used := 0
	for _, s := range stats(t, pod) {
		if s.Sequence > 0 {
			used++
		}
	}
	if used < 2 {
		t.Errorf("%d flows used %d of 4 queues", flows, used)
	}
	if c := d.counters("one"); c.Packets != flows*each {
		t.Errorf("%d packets counted, want %d", c.Packets, flows*each)
	}
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.wantNothing(pod)
}

// One pod that floods its queue does not keep another one waiting.
func TestFloodBesidePing(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	busy, sink := nstest.Pair(t)
	calm, peer := nstest.Pair(t)
	d.attach("busy", busy, api.Ignore)
	d.attach("calm", calm, api.Fail)
	to := sink.ListenUDP(t, netip.AddrPortFrom(sink.IPv4(), 0).String())
	from := busy.DialUDP(t, to.LocalAddr().String())
	var stop atomic.Bool
	var flood sync.WaitGroup
	flood.Go(func() {
		for !stop.Load() {
			_, _ = from.Write([]byte("flood")) // a full socket is part of it
		}
	})
	nstest.Eventually(t, reply, "the flood is inspected", func() bool {
		return d.counters("busy").Packets > 0
	})
	got := peer.Ping(t, calm.IPv4(), 10, time.Second)
	stop.Store(true)
	flood.Wait()
	if got != 10 {
		t.Errorf("%d of 10 replies beside %d flooded packets", got, d.counters("busy").Packets)
	}
}

func TestSettledFlow(t *testing.T) {
	const after, total = 5, 100
	d := start(t, inspect.AcceptAll{})
	d.settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	d.settleAfter = after
	d.restart()
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	send := func(n int) {
		t.Helper()
		for i := range n {
			_, err := fmt.Fprint(from, i)
			nstest.Must(t, err)
			if receive(t, to, 1, reply) != 1 {
				t.Fatalf("datagram %d of %d did not arrive", i, n)
			}
		}
	}
	send(total)
	if c := d.counters("one"); c.Packets != after || c.Settled != 1 {
		t.Errorf("of %d packets %d were inspected, %d settled, want %d and 1",
			total, c.Packets, c.Settled, after)
	}
	nstest.Must(t, d.Unsettle())
	send(total)
	if c := d.counters("one"); c.Packets != 2*after || c.Settled != 2 {
		t.Errorf("after a rule change %d inspected, %d settled, want %d and 2",
			c.Packets, c.Settled, 2*after)
	}
	nstest.Must(t, d.Check(t.Context(), api.Key{ContainerID: "one", Ifname: "eth0"}))
}

// A panic costs its packet, and is told of: in the log with its stack, as an event
// and in the status. It takes no node out of service.
func TestInspectorPanics(t *testing.T) {
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict { panic("on\x1bpurpose") }))
	log := d.capture()
	d.restart()
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	for n := range uint64(3) {
		_, err := from.Write([]byte("payload"))
		nstest.Must(t, err)
		nstest.Eventually(t, reply, "the inspector panics", func() bool {
			return d.counters("one").Panics > n
		})
	}
	d.Verify(t.Context())
	d.Verify(t.Context())
	d.wantEvent(api.EventPanic,
		`the inspector panicked, packets dropped: 3, it said "on\x1bpurpose"`)
	if n := d.EventCounts()[api.EventPanic]; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	problems := d.Problems()
	if len(problems) != 1 || !problems[0].Inspector {
		t.Errorf("problems %+v", problems)
	}
	status := api.Status{Problems: problems}
	if err := status.Ready(); err != nil {
		t.Error(err)
	}
	text := log.String()
	if n := strings.Count(text, "the inspector panicked; the packet got"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	for _, want := range []string{"containerID=one", "TestInspectorPanics.func1", "queue=80"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
}

// A hanging inspector costs its batch; the watchdog lets the queue go on.
func TestWatchdogSupersedes(t *testing.T) {
	release := make(chan struct{})
	hung := make(chan struct{})
	var once sync.Once
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		first := false
		once.Do(func() { first = true })
		if first {
			close(hung)
			<-release
		}
		return inspect.Verdict{Action: inspect.Accept}
	}))
	d.budget = 50 * time.Millisecond
	d.restart()
	ctx, cancel := context.WithCancel(t.Context())
	var watchdog sync.WaitGroup
	watchdog.Go(func() { d.Watchdog(ctx) })
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
		t.Error("the held packet was not let pass under Ignore")
	}
	<-hung
	if got := peer.Ping(t, pod.IPv4(), 3, reply); got != 3 {
		t.Errorf("%d of 3 replies past a hanging inspector", got)
	}
	if c := d.counters("one"); c.Overruns != 1 {
		t.Errorf("%d overruns, want 1", c.Overruns)
	}
	d.Verify(t.Context())
	d.wantEvent(api.EventOverload, "the inspector exceeded its budget, batches accepted uninspected: 1")
	if p := d.Problems(); len(p) != 1 || !p[0].Inspector {
		t.Errorf("problems %+v", p)
	}
	cancel()
	watchdog.Wait()
	close(release)
}
