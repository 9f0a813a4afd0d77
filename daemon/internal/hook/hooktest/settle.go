// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// settleBriefly is a timeout that a test can wait for.
const settleBriefly = 500 * time.Millisecond

// settling selects everything and lets verdicts of the generation settle.
func settling(generation uint8) hook.Selector {
	s := all()
	s.Settle = hook.Settle{Generation: generation, Timeout: time.Minute, Size: 512}
	return s
}

// armSettling arms and answers every packet of TCP and UDP by a verdict that
// settles its flow.
func (f *fixture) armSettling(s hook.Selector, drop bool) *settler {
	f.Helper()
	f.arm(s)
	return settle(f.T, bind(f.T, f.ns, queueNumber),
		always(answer{drop: drop, request: s.Settle.Request(drop)}))
}

func (f *fixture) addresses() []netip.Addr { return []netip.Addr{f.peer.IPv4(), f.peer.IPv6()} }

// want waits until n packets of the protocol have got their verdicts, and
// expects no more of them.
func (s *settler) want(t *testing.T, when string, protocol uint8, n int) {
	t.Helper()
	nstest.Poll(reply, func() bool { return s.answered(protocol) >= n })
	if got := s.count(protocol); got != n {
		t.Errorf("%s: %d packets were queued, want %d", when, got, n)
	}
}

func testSettleAccept(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), false)
	for i, peer := range f.addresses() {
		f.talk(peer).wantBothWays()
		s.want(t, "of a settled flow", inspect.ProtoUDP, 2*i+1)
		// A flow that the peer begins, settled by a packet that comes in.
		k := f.talk(peer)
		if in, out := k.in(1)+k.in(4), k.out(5); out != 5 || in != 5 {
			t.Errorf("%s: %d datagrams in and %d out of 5 arrived", peer, in, out)
		}
		s.want(t, "of a second flow", inspect.ProtoUDP, 2*i+2)
	}
	c, err := f.handle.Counters()
	nstest.Must(t, err)
	if c.Settled != 2*(20+9) {
		t.Errorf("%d packets counted as settled, want 58", c.Settled)
	}
}

func testSettleTCP(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), false)
	for i, peer := range f.addresses() {
		openStream(t, f.pod, f.peer, peer).send(t, 1<<20)
		s.want(t, "the first packet of a connection", inspect.ProtoTCP, i+1)
	}
}

func testSettleDrop(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), true)
	for i, peer := range f.addresses() {
		k := f.talk(peer)
		for _, n := range []int{1, 4} { // one to settle it
			for range n {
				_, _ = k.pod.Write([]byte("out"))
			}
			s.want(t, "of a dropped flow", inspect.ProtoUDP, i+1)
			k.nothing("out of a dropped flow")
		}
		_, err := k.peer.WriteTo([]byte("in"), k.pod.LocalAddr())
		nstest.Must(t, err)
		k.nothing("into a dropped flow")
		s.want(t, "of a dropped flow", inspect.ProtoUDP, i+1)
	}
	s.change(always(answer{}))
	if got := f.talk(f.peer.IPv4()).out(3); got != 3 {
		t.Errorf("%d of 3 datagrams of another flow arrived", got)
	}
}

// Verdicts of packets that wait together may differ; which is asked for first
// does not matter.
func testDropWins(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	for _, dropFirst := range []bool{false, true} {
		f.arm(all())
		f.arm(selector)
		q := bind(t, f.ns, queueNumber)
		k := f.talk(f.peer.IPv4())
		for range 2 {
			_, err := k.pod.Write([]byte("out"))
			nstest.Must(t, err)
		}
		drop := dropFirst
		s := settle(t, q, func(*queued) answer {
			a := answer{drop: drop, request: selector.Settle.Request(drop)}
			drop = !drop
			return a
		})
		nstest.Eventually(t, reply, "both verdicts", func() bool {
			return s.answered(inspect.ProtoUDP) == 2
		})
		if got := receive(t, k.peer, 1); got != 1 {
			t.Error("the accepted packet did not arrive")
		}
		_, _ = k.pod.Write([]byte("out"))
		k.nothing(fmt.Sprintf("although the flow was dropped (first: %t)", dropFirst))
		s.want(t, "of a settled flow", inspect.ProtoUDP, 2)
		s.stop()
	}
}

func testSettleTimeout(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	selector.Settle.Timeout = nstest.Patient(settleBriefly)
	s := f.armSettling(selector, false)
	k := f.talk(f.peer.IPv4())
	k.out(1)
	k.out(3)
	s.want(t, "of a settled flow", inspect.ProtoUDP, 1)
	// Packets that pass do not keep it settled.
	nstest.Eventually(t, reply, "the flow is seen again", func() bool {
		return k.out(1) == 1 && s.count(inspect.ProtoUDP) == 2
	})
	k.out(3)
	s.want(t, "settled again", inspect.ProtoUDP, 2)
}

func testGeneration(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), false)
	k := f.talk(f.peer.IPv4())
	k.out(1)
	f.arm(settling(1))
	k.out(3)
	s.want(t, "armed again alike", inspect.ProtoUDP, 1)
	// Its verdicts still say what they said under the old generation.
	f.arm(settling(hook.MaxGeneration))
	if got := k.out(1) + k.out(3); got != 4 {
		t.Errorf("%d of 4 datagrams arrived", got)
	}
	s.want(t, "under another generation", inspect.ProtoUDP, 5)
	s.change(always(answer{request: settling(hook.MaxGeneration).Settle.Request(false)}))
	k.out(1)
	k.out(3)
	s.want(t, "settled under another generation", inspect.ProtoUDP, 6)
	f.arm(settling(1))
	k.out(1)
	s.want(t, "back under the first generation", inspect.ProtoUDP, 7)
	// A stale drop settles nothing either, but it drops its packet.
	s.change(always(answer{drop: true, request: settling(2).Settle.Request(true)}))
	for range 2 {
		_, _ = k.pod.Write([]byte("out"))
	}
	k.nothing("although its verdict was to drop")
	s.want(t, "after a stale drop", inspect.ProtoUDP, 9)
	s.change(always(answer{}))
	f.arm(all())
	k.out(2)
	s.want(t, "with settling off", inspect.ProtoUDP, 11)
}

func testGenerationKeepsWaiting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	for _, change := range []struct{ from, to hook.Selector }{
		{settling(1), settling(2)}, {all(), settling(1)}, {settling(1), all()},
	} {
		f.arm(change.from)
		f.holdAndRelease(100, func() error { return arm(f.handle, change.to) })
	}
}

func testSettleFull(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	selector.Settle.Size = 2
	s := f.armSettling(selector, false)
	const flows, each = 8, 5
	for range flows {
		k := f.talk(f.peer.IPv4())
		if got := k.out(1) + k.out(each-1); got != each {
			t.Errorf("%d of %d datagrams arrived", got, each)
		}
	}
	s.want(t, "two settled flows and the others", inspect.ProtoUDP, 2+(flows-2)*each)
}

func testSettleICMP(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), false)
	request := settling(1).Settle.Request(false)
	s.change(func(p *queued) answer {
		if flow, _ := p.Flow(); flow.Protocol == inspect.ProtoICMP {
			return answer{request: request}
		}
		return answer{}
	})
	k := f.talk(f.peer.IPv4())
	nstest.Must(t, k.peer.Close())
	refused := func() {
		t.Helper()
		_, err := k.pod.Write([]byte("out"))
		nstest.Must(t, err)
		nstest.Must(t, k.pod.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
		if _, err := k.pod.Read(make([]byte, 16)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatalf("the socket got %v, want the ICMP error", err)
		}
	}
	refused()
	refused()
	s.want(t, "errors that ask for their flow", inspect.ProtoICMP, 2)
	s.want(t, "datagrams that errors refer to", inspect.ProtoUDP, 2)
	s.change(always(answer{request: request}))
	refused()
	refused()
	s.want(t, "errors about a settled flow", inspect.ProtoICMP, 4)
	s.want(t, "datagrams of the settled flow", inspect.ProtoUDP, 3)
}

func testSettleMarkRouting(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	other := f.markedRoute(5)
	s := f.armSettling(settling(1), false)
	to := f.peer.ListenUDP(t, netip.AddrPortFrom(other, 0).String())
	k := &talk{f, f.pod.DialUDP(t, to.LocalAddr().String(), nstest.Mark(5)), to}
	if got := k.out(1) + k.out(4); got != 5 {
		t.Errorf("%d of 5 datagrams took the marked route", got)
	}
	s.want(t, "of the settled flow", inspect.ProtoUDP, 1)
}

// Packets leave with the priority that their socket gave them, whether they
// were queued, carried a request or were not queued any more.
func testOriginPriority(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.pod.Run(t, "nft", `add table ip priorities;
		add chain ip priorities after { type filter hook output priority 0; };
		add rule ip priorities after ip protocol udp meta priority != 0:5 drop`)
	for _, selector := range []hook.Selector{all(), settling(1)} {
		s := f.armSettling(selector, false)
		to := f.peer.ListenUDP(t, netip.AddrPortFrom(f.peer.IPv4(), 0).String())
		k := &talk{f, f.pod.DialUDP(t, to.LocalAddr().String(), priority(5)), to}
		if got := k.out(1) + k.out(4); got != 5 {
			t.Errorf("%d of 5 datagrams left with their priority", got)
		}
		s.stop()
	}
}

func testVerifySettle(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	f.arm(settling(1))
	nstest.Must(t, f.handle.Verify(f.ns, settling(1)))
	f.wantNotArmed("with another generation", settling(2))
	f.wantNotArmed("with settling off", all())
	for _, bad := range []hook.Settle{
		{Generation: 64, Timeout: time.Second, Size: 1},
		{Generation: 1, Size: 1},
		{Generation: 1, Timeout: time.Second},
		{Generation: 1, Timeout: time.Second, Size: hook.MaxSettleSize + 1},
	} {
		s := all()
		s.Settle = bad
		if _, err := f.handle.Arm(s); err == nil {
			t.Errorf("%+v was armed", bad)
		}
	}
	nstest.Must(t, f.handle.Verify(f.ns, settling(1)))
	f.arm(all())
	nstest.Must(t, f.handle.Verify(f.ns, all()))
}
