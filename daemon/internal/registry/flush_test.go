// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Whoever deletes a base chain in the netns makes the kernel drop all packets
// that wait there. That is counted, and the next packets are inspected.
func TestFlushedQueue(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		once.Do(func() { close(held) })
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}))
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	const waiting = 10
	for i := range waiting {
		_, err := fmt.Fprint(from, i)
		nstest.Must(t, err)
	}
	<-held
	pod.Run(t, "nft", "table ip mine { chain c { type filter hook input priority 0; }; }")
	pod.Run(t, "nft", "delete table ip mine")
	close(release)
	nstest.Eventually(t, reply, "verdicts for dropped packets are counted", func() bool {
		c := d.counters("one")
		return c.Flushed > 0 && c.Packets >= waiting
	})
	if got := receive(t, to, 1, silence); got != 0 {
		t.Error("a packet arrived that the kernel should have dropped")
	}
	before := d.counters("one")
	if got := peer.Ping(t, pod.IPv4(), 3, reply); got != 3 {
		t.Errorf("%d of 3 replies afterwards", got)
	}
	after := d.counters("one")
	if after.Packets-before.Packets != 6 || after.Errors != 0 || after.Flushed != before.Flushed {
		t.Errorf("counters %+v before, %+v after 3 pings", before, after)
	}
	d.Verify(t.Context())
	d.wantEvent(api.EventSecurity, "unregistered a netfilter hook")
}

// Whoever owns our table's name does not keep the pod from being inspected, but
// is reported.
func TestForeignTableIsReported(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	squatter := pod.Command("nft", "-i")
	stdin, err := squatter.StdinPipe()
	nstest.Must(t, err)
	nstest.Must(t, squatter.Start())
	_, err = fmt.Fprintln(stdin, "add table inet nsqueue { flags owner; }")
	nstest.Must(t, err)
	nstest.Eventually(t, reply, "the squatter's table", func() bool {
		return strings.Contains(pod.Run(t, "nft", "list", "tables"), "nsqueue")
	})
	a := d.attach("one", pod, api.Fail)
	d.wantEvent(api.EventSecurity, "nsqueue")
	nstest.Must(t, peerAnswers(t, peer, pod))
	if c := d.counters("one"); c.Packets == 0 {
		t.Error("packets are not inspected beside a foreign table")
	}
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	nstest.Must(t, stdin.Close())
	nstest.Must(t, squatter.Wait())
	d.wantNothing(pod)
}

// A program in the netns that reads a queue of its own can let packets skip the hook. It is
// reported when it is seen first, and again when it comes again.
func TestForeignReaderIsReported(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	reports := func() (count int) {
		t.Helper()
		d.Verify(t.Context())
		events, err := d.Events(t.Context())
		nstest.Must(t, err)
		for _, e := range events {
			if e.Kind == api.EventSecurity && strings.Contains(e.Message, "skip inspection") {
				count++
			}
		}
		return count
	}
	for i := range 2 {
		if got := reports(); got != i {
			t.Errorf("%d reports before foreign reader %d, want %d", got, i, i)
		}
		foreign := holdQueue(t, pod, 5)
		for range 2 {
			if got := reports(); got != i+1 {
				t.Errorf("%d reports beside foreign reader %d, want %d", got, i, i+1)
			}
		}
		nstest.Must(t, foreign.Close())
	}
}

// A program in the netns that reads a queue of its own could settle its flows.
func TestForeignReaderEndsSettling(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	d.settleAfter = 1
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	talk := func() uint64 {
		before := d.counters("one").Packets
		for range 5 {
			_, err := from.Write([]byte("settled?"))
			nstest.Must(t, err)
			if receive(t, to, 1, reply) != 1 {
				t.Fatal("a datagram did not arrive")
			}
		}
		return d.counters("one").Packets - before
	}
	if n := talk(); n == 5 {
		t.Fatal("the flow is not settled")
	}
	d.Verify(t.Context())
	if n := talk(); n != 0 {
		t.Fatalf("%d packets of a settled flow were inspected after a verification", n)
	}
	foreign := holdQueue(t, pod, 5)
	defer foreign.Close()
	d.Verify(t.Context())
	d.wantEvent(api.EventSecurity, "another program reads a queue")
	if n := talk(); n != 5 {
		t.Errorf("%d of 5 packets were inspected beside a foreign reader", n)
	}
	nstest.Must(t, d.Unsettle())
	nstest.Must(t, d.Check(t.Context(), a.Key))
	if n := talk(); n != 5 {
		t.Errorf("%d of 5 packets were inspected after a rule change", n)
	}
}
