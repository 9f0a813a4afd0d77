// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// priority sets the priority of everything that the socket sends (SO_PRIORITY);
// above 6 it needs CAP_NET_ADMIN, which a pod of these tests has.
func priority(p uint32) nstest.SocketOption {
	return func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, int(p))
		return os.NewSyscallError("setsockopt SO_PRIORITY", err)
	}
}

// forged returns the options of sockets that ask for what only a verdict may.
func forged(s hook.Settle) []nstest.SocketOption {
	var options []nstest.SocketOption
	for _, drop := range []bool{false, true} {
		options = append(options, priority(s.Request(drop)), nstest.Mark(s.Request(drop)))
	}
	return options
}

// wantUnsettled sends packets of flows that no verdict settles, and expects each
// to be queued and to arrive.
func (f *fixture) wantUnsettled(s *settler, what string, options ...nstest.SocketOption) {
	f.Helper()
	for _, peer := range f.addresses() {
		before := s.count(inspect.ProtoUDP)
		to := f.peer.ListenUDP(f.T, netip.AddrPortFrom(peer, 0).String())
		k := &talk{f, f.pod.DialUDP(f.T, to.LocalAddr().String(), options...), to}
		if out, in := k.out(4), k.in(4); out != 4 || in != 4 {
			f.Errorf("%s: %d datagrams out and %d in of 4 arrived", what, out, in)
		}
		if got := s.count(inspect.ProtoUDP) - before; got != 8 {
			f.Errorf("%s: %d of 8 datagrams were queued", what, got)
		}
	}
	c, err := f.handle.Counters()
	nstest.Must(f.T, err)
	if c.Settled != 0 {
		f.Errorf("%s: %d packets of settled flows", what, c.Settled)
	}
}

// inspecting arms with settling and accepts without settling anything.
func (f *fixture) inspecting() *settler {
	f.Helper()
	f.arm(settling(1))
	return settle(f.T, bind(f.T, f.ns, queueNumber), always(answer{}))
}

func testForgeSocket(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.inspecting()
	for i, option := range forged(settling(1).Settle) {
		f.wantUnsettled(s, fmt.Sprintf("socket option %d", i), option)
		// Over loopback, where nothing is queued, with addresses of the flow.
		self := f.pod.ListenUDP(t, netip.AddrPortFrom(f.pod.IPv4(), 0).String())
		k := &talk{f, f.pod.DialUDP(t, self.LocalAddr().String(), option), self}
		if got := k.out(3); got != 3 {
			t.Errorf("%d of 3 datagrams to the pod itself arrived", got)
		}
	}
	c, err := f.handle.Counters()
	nstest.Must(t, err)
	if c.Settled != 0 {
		t.Errorf("%d packets of settled flows", c.Settled)
	}
}

// forge adds chains at every hook point and at priorities around the hook's that put
// a request into the priority and the mark of all packets. Those of the same
// priority are the pod's best chance to come between the hooks.
func (f *fixture) forge(request uint32) {
	f.Helper()
	rules := []string{"add table inet forge"}
	for i, p := range []int{-300, -200, -199, -199, -198, -197, 0} {
		for _, point := range []string{"prerouting", "input", "output", "postrouting"} {
			chain := fmt.Sprintf("inet forge %s%d", point, i)
			rules = append(rules,
				fmt.Sprintf("add chain %s { type filter hook %s priority %d; }", chain, point, p),
				fmt.Sprintf("add rule %s meta priority set %#x", chain, request),
				fmt.Sprintf("add rule %s meta mark set %#x", chain, request))
		}
	}
	f.pod.Run(f.T, "nft", strings.Join(rules, "\n"))
}

func testForgeRules(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.inspecting()
	for _, drop := range []bool{false, true} {
		f.forge(settling(1).Settle.Request(drop))
		f.wantUnsettled(s, "a pod's rules")
	}
}

func testForgeEarlyRules(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.forge(settling(1).Settle.Request(false))
	f.wantUnsettled(f.inspecting(), "a pod's rules that were there first")
}

func testForgeDirection(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	selector.Directions = hook.In
	f.arm(selector)
	s := settle(t, bind(t, f.ns, queueNumber), always(answer{}))
	f.forge(selector.Settle.Request(false))
	k := f.talk(f.peer.IPv4())
	if out, in := k.out(4), k.in(4); out != 4 || in != 4 {
		t.Errorf("%d datagrams out and %d in of 4 arrived", out, in)
	}
	s.want(t, "of the selected direction", inspect.ProtoUDP, 4)
}

// A packet that was queued while settling was off gets its verdict when it is
// on.
func testForgeWaiting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(all())
	q := bind(t, f.ns, queueNumber)
	request := settling(1).Settle.Request(false)
	to := f.peer.ListenUDP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	k := &talk{f, f.pod.DialUDP(t, to.LocalAddr().String(), priority(request)), to}
	_, err := k.pod.Write([]byte("out"))
	nstest.Must(t, err)
	f.arm(settling(1))
	stat, _, err := q.Stat(f.ns)
	nstest.Must(t, err)
	nstest.Must(t, q.AnswerAll(stat.Sequence, true))
	if got := receive(t, k.peer, 1); got != 1 {
		t.Fatal("the waiting datagram did not arrive")
	}
	s := settle(t, q, always(answer{}))
	before := s.count(inspect.ProtoUDP) // the one that was answered
	k.out(3)
	nstest.Eventually(t, reply, "all are queued", func() bool {
		return s.count(inspect.ProtoUDP) >= before+3
	})
}

// Packets of a settled flow are not queued, but forged requests in them would
// be met behind the queue.
func testForgeSettled(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	selector.Settle.Timeout = nstest.Patient(settleBriefly)
	s := f.armSettling(selector, false)
	to := f.peer.ListenUDP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
	k := &talk{f, f.pod.DialUDP(t, to.LocalAddr().String(),
		priority(selector.Settle.Request(false))), to}
	k.out(1)
	s.change(always(answer{}))
	nstest.Eventually(t, reply, "the flow is seen again", func() bool {
		return k.out(1) == 1 && s.count(inspect.ProtoUDP) >= 2
	})
}
