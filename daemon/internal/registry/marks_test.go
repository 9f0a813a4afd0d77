// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Others' marks are told of the pod that has them. Our own hook is none of them.
func TestMarks(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	mesh, plain := nstest.New(t), nstest.New(t)
	a := d.attach("mesh", mesh, api.Ignore)
	d.attach("plain", plain, api.Fail)
	mesh.Run(t, "ip", "rule", "add", "fwmark", "1337", "lookup", "133", "pref", "100")
	plain.Run(t, "ip", "rule", "add", "fwmark", "1337/0xfff", "lookup", "133", "pref", "100")
	got, err := d.Marks(t.Context())
	nstest.Must(t, err)
	want := api.MarkReport{
		MarkMask: 0xff000000, Netns: 2,
		Uses: []api.MarkUse{{Key: a.Key, Where: "ip -4 rule 100", Mask: 0xffffffff}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The time of the inspector is counted.
func TestInspectTime(t *testing.T) {
	const takes = 5 * time.Millisecond
	d := start(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		<-time.After(takes)
		return inspect.Verdict{Action: inspect.Accept}
	}))
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	if got := pod.Ping(t, peer.IPv4(), 1, reply); got != 1 {
		t.Fatal("no answer")
	}
	c := d.counters("one")
	least := time.Duration(c.Packets) * takes
	if got := time.Duration(c.InspectNanoseconds); c.Packets < 2 || got < least || got > reply {
		t.Errorf("%v for %d packets, want at least %v", got, c.Packets, least)
	}
}

// All buffers are as they are to be: this process may.
func TestBuffersStatus(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.attach("one", nstest.New(t), api.Ignore)
	got, err := d.Buffers()
	want := api.Buffers{Queues: 1, Wanted: 8 << 20, Each: 8 << 20, Total: 1 << 30, Possible: 8 << 20}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
