// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
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
		nstest.Must(t, err)
	}
	got, err := d.Describe(t.Context(), a.Key)
	close(release)
	nstest.Must(t, err)
	want := api.QueueState{Queue: a.Queues[0], Bound: true, Waiting: sent}
	if len(got.QueueStates) != 1 || got.QueueStates[0] != want || got.Problem != "" {
		t.Errorf("%+v, %q; want %+v", got.QueueStates, got.Problem, want)
	}
	if got.Key != a.Key || got.Netns != a.Netns {
		t.Errorf("%+v", got)
	}
	wantKinds(t, got.Events, api.EventAttach)
	if n := receive(t, to, sent, reply); n != sent {
		t.Errorf("%d of %d arrived", n, sent)
	}
	nstest.Eventually(t, reply, "nothing waits", func() bool {
		got, err := d.Describe(t.Context(), a.Key)
		nstest.Must(t, err)
		return got.QueueStates[0].Waiting == 0 && got.Counters.Accepted == sent
	})
}

// Somebody else in the netns has the queue: the problem is told, and so are the
// events about this attachment and no other.
func TestDescribeProblem(t *testing.T) {
	d := startHeld(t, inspect.AcceptAll{})
	pod, other := nstest.New(t), nstest.New(t)
	a, b := d.attach("one", pod, api.Ignore), d.attach("two", other, api.Ignore)
	d.unbind(pod)
	foreign := holdQueue(t, pod, nfqueue.DefaultNumber)
	d.Verify(t.Context())
	got, err := d.Describe(t.Context(), a.Key)
	nstest.Must(t, err)
	if got.QueueStates[0].Bound || !strings.Contains(got.Problem, "queue 80") {
		t.Errorf("%+v", got)
	}
	wantKinds(t, got.Events, api.EventAttach, api.EventSecurity)
	nstest.Must(t, foreign.Close())
	d.Verify(t.Context())
	got, err = d.Describe(t.Context(), a.Key)
	nstest.Must(t, err)
	if !got.QueueStates[0].Bound || got.Problem != "" {
		t.Errorf("after the repair: %+v", got)
	}
	wantKinds(t, got.Events, api.EventAttach, api.EventSecurity, api.EventRepair)
	whole, err := d.Describe(t.Context(), b.Key)
	nstest.Must(t, err)
	wantKinds(t, whole.Events, api.EventAttach)
	_, err = d.Describe(t.Context(), api.Key{ContainerID: "three", Ifname: "eth0"})
	if api.CodeOf(err) != api.CodeNotAttached {
		t.Errorf("unknown attachment: %v", err)
	}
}

func wantKinds(t *testing.T, events []api.Event, want ...api.EventKind) {
	t.Helper()
	var got []api.EventKind
	for _, e := range events {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// What was wrong with the call is an event, is shown, and is counted.
func TestWarningsAreReported(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod := nstest.New(t)
	req := request("one", pod, api.Ignore)
	for range 3000 {
		req.Warnings = append(req.Warnings, "no such annotation")
	}
	a, err := d.Attach(t.Context(), req, nil)
	nstest.Must(t, err)
	want := api.LimitWarnings(req.Warnings)
	got, err := d.Describe(t.Context(), a.Key)
	nstest.Must(t, err)
	wantKinds(t, got.Events, api.EventAttach, api.EventWarning)
	if !slices.Equal(got.Warnings, want) || got.Events[1].Message != strings.Join(want, "; ") {
		t.Errorf("%+v", got)
	}
	if n := d.EventCounts()[api.EventWarning]; n != 1 {
		t.Errorf("%d warnings are counted", n)
	}
}

// A pod that is not attached has its event, too.
func TestWarningsOfUninspected(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	report := api.WarningReport{
		Key: api.Key{ContainerID: "two", Ifname: "eth0"}, Pod: api.Pod{Name: "web"},
		Warnings: []string{"no such annotation"},
	}
	nstest.Must(t, d.Warn(t.Context(), report))
	d.wantEvent(api.EventWarning, "no such annotation")
	events, err := d.Events(t.Context())
	nstest.Must(t, err)
	if last := events[len(events)-1]; last.Key != report.Key || last.Pod != report.Pod {
		t.Errorf("%+v", last)
	}
}
