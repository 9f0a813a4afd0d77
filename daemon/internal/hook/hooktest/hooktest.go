// SPDX-License-Identifier: Apache-2.0

// Package hooktest is the contract that every implementation of hook.Hook must
// keep, as a test. It needs root in a throw-away node (see nstest.Main), and
// for what a pod may try against it, the commands nft and iptables.
package hooktest

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	queueNumber = 80
	// reply is how long a test waits for an answer that must come.
	reply = time.Minute // only for what hangs
	// silence is how long a test waits for an answer that must not come.
	silence = 200 * time.Millisecond
)

// all selects everything and drops it while no reader is there.
func all() hook.Selector {
	return hook.Selector{Queue: queueNumber, Directions: hook.AllDirections}
}

func testNoReader(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	if got := f.pings(reply); got != 3 {
		t.Fatalf("%d of 3 replies before arming", got)
	}
	s := all()
	f.arm(s)
	if got := f.pings(silence); got != 0 {
		t.Errorf("%d of 3 replies with no reader and no bypass", got)
	}
	s.Bypass = true
	f.arm(s)
	if got := f.pings(reply); got != 3 {
		t.Errorf("%d of 3 replies with no reader and bypass", got)
	}
	s.Bypass = false
	f.arm(s)
	if got := f.pings(silence); got != 0 {
		t.Errorf("%d of 3 replies after bypass was switched off", got)
	}
	nstest.Must(t, f.handle.Disarm())
	if got := f.pings(reply); got != 3 {
		t.Errorf("%d of 3 replies after disarming", got)
	}
}

func testDirections(t *testing.T, h hook.Hook) {
	a, r, b := nstest.Line(t)
	s := all()
	mustArm(t, openHook(t, h, r), s)
	seen := read(t, open(t, r))
	for _, family := range []struct {
		name           string
		through, local netip.Addr
	}{
		{"IPv4", b.IPv4(), netip.MustParseAddr("10.99.1.254")},
		{"IPv6", b.IPv6(), netip.MustParseAddr("fd99:1::fe")},
	} {
		t.Run(family.name, func(t *testing.T) {
			seen.reset()
			if got := a.Ping(t, family.local, 2, reply); got != 2 {
				t.Errorf("%d of 2 replies from the pod", got)
			}
			if got := a.Ping(t, family.through, 2, reply); got != 2 {
				t.Errorf("%d of 2 replies through the pod", got)
			}
			// Requests in and replies out; both of them when forwarded.
			for d, want := range map[inspect.Direction]int{
				inspect.In: 2, inspect.Out: 2, inspect.Forward: 4,
			} {
				if got := seen.direction(d); got != want {
					t.Errorf("saw %d packets %s, want %d", got, d, want)
				}
			}
		})
	}
}

func testSelectedDirections(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(hook.Selector{Queue: queueNumber, Directions: hook.In})
	seen := read(t, f.ns)
	f.pings(reply)
	if in, out := seen.direction(inspect.In), seen.direction(inspect.Out); in != 3 || out != 0 {
		t.Errorf("saw %d in, %d out, want 3 and 0", in, out)
	}
}

func testSelectedProtocols(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := all()
	s.Protocols = []uint8{inspect.ProtoICMP}
	f.arm(s)
	if got := f.pings(silence); got != 0 {
		t.Errorf("%d of 3 replies of the selected protocol with no reader", got)
	}
	if got := f.udp(5); got != 5 {
		t.Errorf("%d of 5 datagrams of another protocol arrived", got)
	}
}

// udp sends n datagrams from the pod to the peer and returns how many arrive.
func (f *fixture) udp(n int) int {
	f.Helper()
	to := f.peer.ListenUDP(f.T, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	from := f.pod.DialUDP(f.T, to.LocalAddr().String())
	for i := range n {
		_, err := fmt.Fprint(from, i)
		nstest.Must(f.T, err)
	}
	return receive(f.T, to, n)
}

func testLoopback(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	for _, addr := range []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), f.pod.IPv4(), f.pod.IPv6(),
	} {
		if got := f.pod.Ping(t, addr, 2, reply); got != 2 {
			t.Errorf("%d of 2 replies from the pod's own %s with no reader", got, addr)
		}
	}
}

func testNeighbourDiscovery(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	f.peer.Ping(t, f.pod.IPv6(), 1, silence)
	f.pod.Ping(t, f.peer.IPv6(), 1, silence)
	nstest.Eventually(t, reply, "the peer knows the pod's link address", func() bool {
		return f.resolved(f.peer, f.pod.IPv6())
	})
	nstest.Eventually(t, reply, "the pod knows the peer's link address", func() bool {
		return f.resolved(f.pod, f.peer.IPv6())
	})
	c, err := f.handle.Counters()
	nstest.Must(t, err)
	if c.Exempt < 2 {
		t.Errorf("%d exempt packets, want at least a solicitation and its advertisement", c.Exempt)
	}
}

// resolved reports whether the netns has addr's link address.
func (f *fixture) resolved(n *nstest.NetNS, addr netip.Addr) bool {
	f.Helper()
	found := false
	nstest.Must(f.T, n.Try(func() error {
		neighbours, err := netlink.NeighList(0, unix.AF_INET6)
		for _, nb := range neighbours {
			found = found || (nb.IP.Equal(addr.AsSlice()) && len(nb.HardwareAddr) > 0)
		}
		return err
	}))
	return found
}

func testSpoofedDiscovery(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	seen := read(t, f.ns)
	nstest.Must(t, f.pod.Try(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, inspect.ProtoICMPv6)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		solicitation := []byte{135, 0, 0, 0, 0, 0, 0, 0}
		return unix.Sendto(s, solicitation, 0, &unix.SockaddrInet4{Addr: f.peer.IPv4().As4()})
	}))
	spoofed := func(p *record) bool { return p.flow.Protocol == inspect.ProtoICMPv6 }
	nstest.Eventually(t, reply, "the packet is seen", func() bool {
		return seen.count(spoofed) == 1
	})
}

func testDisarmKeepsWaiting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	f.holdAndRelease(100, f.handle.Disarm)
}

func testRearmKeepsWaiting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	f.holdAndRelease(100, func() error {
		s := all()
		s.Bypass = true
		return arm(f.handle, s)
	})
}

// holdAndRelease lets n datagrams wait in the queue, calls change, accepts
// them all and expects every one to arrive.
func (f *fixture) holdAndRelease(n int, change func() error) {
	f.Helper()
	q := bind(f.T, f.ns, queueNumber)
	defer q.Close()
	to := f.peer.ListenUDP(f.T, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	from := f.pod.DialUDP(f.T, to.LocalAddr().String())
	for i := range n {
		_, err := fmt.Fprint(from, i)
		nstest.Must(f.T, err)
	}
	stat, bound, err := q.Stat(f.ns)
	nstest.Must(f.T, err)
	if !bound || stat.Waiting != uint32(n) {
		f.Fatalf("%d packets wait (bound %t), want %d", stat.Waiting, bound, n)
	}
	nstest.Must(f.T, change())
	nstest.Must(f.T, q.AnswerAll(stat.Sequence, true))
	if got := receive(f.T, to, n); got != n {
		f.Errorf("%d of %d waiting packets arrived", got, n)
	}
}

func testFragments(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	seen := read(t, f.ns)
	for _, addr := range []netip.Addr{f.pod.IPv4(), f.pod.IPv6()} {
		seen.reset()
		to := f.pod.ListenUDP(t, netip.AddrPortFrom(addr, 0).String())
		from := f.peer.DialUDP(t, to.LocalAddr().String())
		_, err := from.Write(make([]byte, 4000))
		nstest.Must(t, err)
		if got := receive(t, to, 1); got != 1 {
			t.Errorf("%s: the datagram did not arrive", addr)
		}
		whole := seen.count(func(p *record) bool { return p.length > 4000 && !p.flow.Fragment })
		if total := seen.direction(inspect.In); whole != 1 || total != 1 {
			t.Errorf("%s: saw %d packets, %d of them whole, want one", addr, total, whole)
		}
	}
}

func testNetAdmin(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	seen := read(t, f.ns)
	for _, attempt := range [][]string{
		{"nft", "flush", "ruleset"},
		{"nft", "delete", "table", "inet", "nsqueue"},
		{"nft", "flush", "chain", "inet", "nsqueue", "input"},
		{"iptables", "-F"},
		{"iptables", "-X"},
	} {
		// Whether the attempt is refused or changes nothing makes no difference.
		out, err := f.pod.Command(attempt[0], attempt[1:]...).CombinedOutput()
		if _, refused := errors.AsType[*exec.ExitError](err); err != nil && !refused {
			t.Fatalf("%v: %v: %s", attempt, err, out)
		}
		seen.reset()
		replies, requests := f.pings(reply), seen.direction(inspect.In)
		if replies != 3 || requests != 3 {
			t.Errorf("after %v: %d of 3 replies, %d requests seen", attempt, replies, requests)
		}
		nstest.Must(t, f.handle.Verify(f.ns, all()))
	}
}

func testVerify(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.wantNotArmed("before arming", all())
	f.arm(all())
	nstest.Must(t, f.handle.Verify(f.ns, all()))
	less := all()
	less.Directions = hook.In
	f.wantNotArmed("with another selector", less)
	nstest.Must(t, f.handle.Disarm())
	f.wantNotArmed("after disarming", all())
}

func (f *fixture) wantNotArmed(when string, s hook.Selector) {
	f.Helper()
	if err := f.handle.Verify(f.ns, s); !errors.Is(err, hook.ErrNotArmed) {
		f.Errorf("verify %s: %v, want %v", when, err, hook.ErrNotArmed)
	}
}

func testBadSelector(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	for _, bad := range []hook.Selector{{Queue: 1}, {Queue: 1, Directions: 0x80}} {
		if _, err := f.handle.Arm(bad); err == nil {
			t.Errorf("%+v was armed", bad)
		}
	}
	nstest.Must(t, f.handle.Verify(f.ns, all()))
}

func testCounters(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	read(t, f.ns)
	before, err := f.handle.Counters()
	nstest.Must(t, err)
	f.pings(reply)
	after, err := f.handle.Counters()
	nstest.Must(t, err)
	if got := after.Queued - before.Queued; got != 6 {
		t.Errorf("3 pings counted %d queued packets, want 6", got)
	}
}

func testRemove(t *testing.T, h hook.Hook) {
	pod, peer := nstest.Pair(t)
	for range 2 {
		handle, err := h.Open(open(t, pod), nil)
		nstest.Must(t, err)
		mustArm(t, handle, all())
		if got := peer.Ping(t, pod.IPv4(), 1, silence); got != 0 {
			t.Error("a reply from an armed pod without a reader")
		}
		closeHook(t, handle)
		if got := peer.Ping(t, pod.IPv4(), 1, reply); got != 1 {
			t.Error("no reply after the hook was removed")
		}
		if left := pod.Run(t, "nft", "list", "ruleset"); left != "" {
			t.Errorf("left in the netns: %s", left)
		}
	}
}
