// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What waits is what the kernel says at this moment.
func TestDescribeWaiting(t *testing.T) {
	const sent = 3
	release := make(chan struct{})
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}))
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	to := peer.ListenUDP(t, netip.AddrPortFrom(peer.IPv4(), 0).String())
	from := pod.DialUDP(t, to.LocalAddr().String())
	for range sent {
		_, err := from.Write([]byte("held"))
		must(t, err)
	}
	got, err := d.Describe(t.Context(), a.Key)
	close(release)
	must(t, err)
	want := api.QueueState{Queue: a.Queues[0], Bound: true, Waiting: sent}
	if len(got.QueueStates) != 1 || got.QueueStates[0] != want || got.Problem != "" {
		t.Errorf("%+v, %q; want %+v", got.QueueStates, got.Problem, want)
	}
	if got.Key != a.Key || got.Netns != a.Netns || len(got.Events) != 1 ||
		got.Events[0].Kind != api.EventAttach {
		t.Errorf("%+v", got)
	}
	if n := receive(t, to, sent, reply); n != sent {
		t.Errorf("%d of %d arrived", n, sent)
	}
	nstest.Eventually(t, reply, "nothing waits", func() bool {
		got, err := d.Describe(t.Context(), a.Key)
		must(t, err)
		return got.QueueStates[0].Waiting == 0 && got.Counters.Accepted == sent
	})
}

// Somebody else in the netns has the queue: the problem is told, and so are the
// events about this attachment and no other.
func TestDescribeProblem(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, other := nstest.New(t), nstest.New(t)
	a, b := d.attach("one", pod, api.Ignore), d.attach("two", other, api.Ignore)
	d.Unbind("one")
	ns, err := netns.Open(pod.Path())
	must(t, err)
	defer ns.Close()
	foreign, err := nfqueue.Open(ns, nfqueue.Config{
		Number: nfqueue.DefaultNumber, Length: 1, CopyRange: 1, ReceiveBuffer: 1 << 16,
	})
	must(t, err)
	must(t, foreign.Bind())
	d.Prove(t.Context())
	got, err := d.Describe(t.Context(), a.Key)
	must(t, err)
	if got.QueueStates[0].Bound || !strings.Contains(got.Problem, "queue 80") {
		t.Errorf("%+v", got)
	}
	if len(got.Events) != 2 || got.Events[1].Kind != api.EventSecurity {
		t.Errorf("events %+v, want that somebody is in our way", got.Events)
	}
	must(t, foreign.Close())
	d.Prove(t.Context())
	got, err = d.Describe(t.Context(), a.Key)
	must(t, err)
	if !got.QueueStates[0].Bound || got.Problem != "" || len(got.Events) != 3 {
		t.Errorf("after the repair: %+v", got)
	}
	whole, err := d.Describe(t.Context(), b.Key)
	must(t, err)
	if len(whole.Events) != 1 || whole.Events[0].Kind != api.EventAttach {
		t.Errorf("events about another attachment: %+v", whole.Events)
	}
	_, err = d.Describe(t.Context(), api.Key{ContainerID: "three", Ifname: "eth0"})
	if api.CodeOf(err) != api.CodeNotAttached {
		t.Errorf("unknown attachment: %v", err)
	}
}
