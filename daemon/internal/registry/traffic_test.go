// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// hand gives the pod's address and all its traffic to a guest, as Kata does with
// its virtual machine: tc mirred on the interface and on a device to the guest.
func hand(t *testing.T, pod *nstest.NetNS) {
	t.Helper()
	guest := nstest.New(t)
	var mac net.HardwareAddr
	nstest.Must(t, pod.Try(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			mac = link.Attrs().HardwareAddr
		}
		return err
	}))
	pod.Run(t, "ip", "link", "add", "tap0", "type", "veth", "peer", "name", "guest0")
	pod.Run(t, "ip", "link", "set", "guest0", "netns", guest.Path())
	guest.Run(t, "ip", "link", "set", "guest0", "address", mac.String(), "up")
	guest.Run(t, "ip", "addr", "add", pod.IPv4().String()+"/24", "dev", "guest0")
	pod.Run(t, "ip", "link", "set", "tap0", "up")
	pod.Run(t, "ip", "addr", "flush", "dev", "eth0")
	for from, to := range map[string]string{"eth0": "tap0", "tap0": "eth0"} {
		pod.Run(t, "tc", "qdisc", "add", "dev", from, "ingress")
		pod.Run(t, "tc", "filter", "add", "dev", from, "parent", "ffff:", "protocol", "all",
			"u32", "match", "u8", "0", "0", "action", "mirred", "egress", "redirect", "dev", to)
	}
	nstest.Must(t, pod.AwaitUp("tap0"))
	nstest.Must(t, guest.AwaitUp("guest0"))
}

func pings(t *testing.T, from, to *nstest.NetNS) {
	t.Helper()
	if got := from.Ping(t, to.IPv4(), 120, reply); got != 120 {
		t.Fatalf("%d of 120 replies", got)
	}
}

func (d *daemon) wantPast(want bool) {
	d.t.Helper()
	problems := d.Problems()
	if past := len(problems) == 1 && problems[0].PastHook; past != want || len(problems) > 1 {
		d.t.Errorf("past the hook: %t, want %t: %+v", past, want, problems)
	}
	status := api.Status{Problems: problems}
	if err := status.Ready(); err != nil { // no reason to send pods elsewhere
		d.t.Error(err)
	}
}

// What goes to a guest is found in the second look, said once, and is over when
// the hook sees packets.
func TestTrafficPastTheHook(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	hand(t, pod)
	d.Verify(t.Context())
	for look := range 3 {
		pings(t, peer, pod)
		d.Verify(t.Context())
		d.wantPast(look > 0)
	}
	if n := d.EventCounts()[api.EventPastHook]; n != 1 {
		t.Errorf("%d events, want one", n)
	}
	described, err := d.Describe(t.Context(), a.Key)
	nstest.Must(t, err)
	if !strings.Contains(described.Problem, "eth0 received") {
		t.Errorf("described as %q", described.Problem)
	}
	d.Verify(t.Context()) // no news is no good news
	d.wantPast(true)
	for _, dev := range []string{"eth0", "tap0"} {
		pod.Run(t, "tc", "qdisc", "del", "dev", dev, "ingress")
	}
	pod.Run(t, "ip", "addr", "add", pod.IPv4().String()+"/24", "dev", "eth0")
	pings(t, peer, pod)
	d.Verify(t.Context())
	d.wantPast(false)
	d.wantEvent(api.EventRepair, "pass through the hook again")
}

// Where the hook counts only a part of what it sees, the IP stack is asked.
func TestTrafficPastTheHookOfASelection(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.protocols = []uint8{inspect.ProtoTCP}
	d.restart()
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.Verify(t.Context())
	for range 3 { // the stack sends what is not selected
		pings(t, peer, pod)
		d.Verify(t.Context())
		d.wantPast(false)
	}
	hand(t, pod)
	// A packet of the stack's own, such as IPv6's when a link comes up, is none
	// that went past: it takes two looks without one.
	nstest.Eventually(t, time.Minute, "traffic past the hook is reported", func() bool {
		pings(t, peer, pod)
		d.Verify(t.Context())
		return len(d.Problems()) > 0
	})
	d.wantPast(true)
}

// A pod that is inspected never has its traffic called uninspected.
func TestInspectedTrafficIsNotPast(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Fail)
	for range 3 {
		d.Verify(t.Context())
		pings(t, peer, pod)
	}
	d.Verify(t.Context())
	d.wantPast(false)
}

// An ipvlan in mode l3s is reported as itself, beside others of its netns and as
// long as it is attached.
func TestL3SIsReported(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.TakeForL3S("net1")
	pod := nstest.New(t)
	d.attach("one", pod, api.Ignore)
	req := request("one", pod, api.Ignore)
	req.Ifname = "net1"
	a, err := d.Attach(t.Context(), req, nil)
	nstest.Must(t, err)
	d.wantEvent(api.EventPastHook, "interface net1 is an ipvlan in mode l3s")
	for range 2 { // no verification ends it
		problems := d.Problems()
		if len(problems) != 1 || problems[0].Key != a.Key || !problems[0].PastHook {
			t.Errorf("problems %+v, want one of net1", problems)
		}
		d.Verify(t.Context())
	}
	described, err := d.Describe(t.Context(), a.Key)
	nstest.Must(t, err)
	if !strings.Contains(described.Problem, "mode l3s") {
		t.Errorf("described as %q", described.Problem)
	}
	if n := d.EventCounts()[api.EventPastHook]; n != 1 {
		t.Errorf("%d events, want one", n)
	}
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	if problems := d.Problems(); len(problems) != 0 {
		t.Errorf("problems %+v after net1 is detached", problems)
	}
	req.FailurePolicy = api.Fail
	if _, err := d.Attach(t.Context(), req, nil); err == nil {
		t.Error("attached under Fail")
	}
}
