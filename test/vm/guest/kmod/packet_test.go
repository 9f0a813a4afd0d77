// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// patience is for what nothing can signal.
const patience = time.Minute

func TestNeverArmed(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	f.in(t, []byte("x"))
	f.out(t, []byte("x"))
	if received(t, f.pod, 1) != 1 || received(t, f.node, 1) != 1 {
		t.Error("traffic of a netns that was never armed does not pass")
	}
	s := p.status(t)
	if s["hooks"] != "no" || s["seen"] != "0" {
		t.Errorf("hooks %s, seen %s", s["hooks"], s["seen"])
	}
}

func TestNoReader(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")

	before := p.status(t)
	f.in(t, []byte("x"))
	f.out(t, []byte("x"))
	nothing(t, f.pod)
	expectGrown(t, p.netns, before, []int{2, 0}, "queued", "bypassed")

	p.set(t, "bypass", "1")
	before = p.status(t)
	f.in(t, []byte("x"))
	f.out(t, []byte("x"))
	if received(t, f.pod, 1) != 1 || received(t, f.node, 1) != 1 {
		t.Error("bypass on: the packets do not pass")
	}
	expectGrown(t, p.netns, before, []int{2, 2}, "queued", "bypassed")
}

func TestDisarmKeepsWaiting(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	r := p.newReader(t, 80)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")
	for range 10 {
		f.in(t, []byte("held"))
	}
	held := r.expect(t, 10)

	p.set(t, "enabled", "0")
	if s := p.status(t); s["hooks"] != "yes" || s["enabled"] != "0" {
		t.Errorf("hooks %s, enabled %s", s["hooks"], s["enabled"])
	}
	nothing(t, f.pod)
	before := p.status(t)
	f.in(t, []byte("free"))
	if received(t, f.pod, 1) != 1 {
		t.Error("a packet after disarming does not pass")
	}
	expectGrown(t, p.netns, before, []int{0}, "seen")
	for _, packet := range held {
		if err := r.accept(packet); err != nil {
			t.Fatal(err)
		}
	}
	if got := received(t, f.pod, 10); got != 10 {
		t.Errorf("%d of 10 waiting packets were delivered", got)
	}
}

func TestDirections(t *testing.T) {
	load(t, "")
	for _, c := range []struct {
		directions string
		hooks      []uint8
	}{
		{"in", []uint8{hookIn}},
		{"out", []uint8{hookOut}},
		{"forward", nil},
		{"all", []uint8{hookIn, hookOut}},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%t", c.directions, v6), func(t *testing.T) {
				testDirection(t, c.directions, c.hooks, v6)
			})
		}
	}
}

func testDirection(t *testing.T, directions string, hooks []uint8, v6 bool) {
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, v6)
	if n.Ping(t, addrOf(f.pod).Addr(), 1, delivery) != 1 {
		t.Fatal("the pod does not answer before it is armed")
	}
	r := p.newReader(t, 80)
	p.set(t, "directions", directions)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")
	f.in(t, []byte("x"))
	f.out(t, []byte("x"))
	for _, want := range hooks {
		packet := r.expect(t, 1)[0]
		if packet.hook != want {
			t.Errorf("packet at hook %d, expected %d", packet.hook, want)
		}
		if err := r.accept(packet); err != nil {
			t.Fatal(err)
		}
	}
	if received(t, f.pod, 1) != 1 || received(t, f.node, 1) != 1 {
		t.Error("the packets were not delivered")
	}
	if _, err := r.next(50 * time.Millisecond); !errors.Is(err, errNoPacket) {
		t.Errorf("one packet too many: %v", err)
	}
}

func TestForward(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p1, p2 := n.newPod(t), n.newPod(t)
	// The bridge's own netns sees what pods send to each other as forwarded.
	n.must(t, func() error { return writeFile("/proc/sys/net/bridge/bridge-nf-call-iptables", "1") })
	r := n.newReader(t, 80)
	n.set(t, "directions", "forward")
	n.set(t, "protocols", "udp")
	n.set(t, "enabled", "1")
	from, to := p1.listenUDP(t, p1.v4), p2.listenUDP(t, p2.v4)
	if err := send(from, to, []byte("x")); err != nil {
		t.Fatal(err)
	}
	packet := r.expect(t, 1)[0]
	if packet.hook != hookForward {
		t.Errorf("packet at hook %d, expected forward", packet.hook)
	}
	if err := r.accept(packet); err != nil {
		t.Fatal(err)
	}
	if received(t, to, 1) != 1 {
		t.Error("the packet was not delivered")
	}
}

func TestMarkUntouched(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := &flow{node: n.listenUDP(t, n.v4), pod: p.listenUDP(t, p.v4, nstest.Mark(0x1234))}
	r := p.newReader(t, 80)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")
	f.out(t, []byte("x"))
	packet := r.expect(t, 1)[0]
	if packet.mark != 0x1234 {
		t.Errorf("mark %#x, expected 0x1234", packet.mark)
	}
}

func TestUDP6Whole(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, true)
	r := p.newReader(t, 80)
	p.set(t, "protocols", "udp")
	p.set(t, "enabled", "1")
	f.in(t, make([]byte, 4000))
	packet := r.expect(t, 1)[0]
	if got := len(packet.payload); got != 40+8+4000 {
		t.Errorf("queued %d bytes, expected the whole datagram", got)
	}
	if err := r.accept(packet); err != nil {
		t.Fatal(err)
	}
	if received(t, f.pod, 1) != 1 {
		t.Error("the datagram was not delivered")
	}
	expectGrown(t, p.netns, status{"queued": "0"}, []int{1}, "queued")
}

func TestLoopbackExempt(t *testing.T) {
	load(t, "")
	p := newNode(t).newPod(t)
	p.set(t, "enabled", "1")
	for _, to := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), p.v4, p.v6} {
		a := p.listenUDP(t, to)
		before := p.status(t)
		if err := send(a, a, []byte("x")); err != nil {
			t.Errorf("send to %s: %v", to, err)
		}
		if received(t, a, 1) != 1 {
			t.Errorf("a packet to %s over lo does not pass", to)
		}
		expectGrown(t, p.netns, before, []int{0}, "queued")
	}
}

// icmp6 sends one message of that type from the node, with a hop-by-hop header
// before it if options says so.
func (n *node) icmp6(t *testing.T, to netip.Addr, kind byte, hops int, options bool) {
	t.Helper()
	n.must(t, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops); err != nil {
			return err
		}
		if options {
			// Router alert, as in a listener report, and two bytes of padding.
			hop := []byte{0, 0, 5, 2, 0, 0, 1, 0}
			if err := unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, string(hop)); err != nil {
				return err
			}
		}
		message := append([]byte{kind, 0, 0, 0}, make([]byte, 20)...)
		return unix.Sendto(fd, message, 0, &unix.SockaddrInet6{Addr: to.As16()})
	})
}

func TestNeighbourMessagesExempt(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	// The neighbour is resolved although no program reads: the solicitation comes
	// in and the answer goes out.
	p.set(t, "enabled", "1")
	f := newFlow(t, n, p, true)
	f.in(t, []byte("x"))
	nstest.Eventually(t, patience, "the datagram behind the neighbour's answer is queued",
		func() bool { return p.status(t).count(t, "queued") > 0 })
	// Only what the node sends by itself is counted from here on.
	p.set(t, "directions", "in")
	r := p.newReader(t, 80)
	for _, options := range []bool{false, true} {
		for kind := 125; kind <= 145; kind++ {
			discovery := kind >= 133 && kind <= 137
			listener := kind >= 130 && kind <= 132 || kind == 143
			hops := 1
			if discovery {
				hops = 255
			}
			n.icmp6(t, p.v6, byte(kind), hops, options)
			if discovery || listener {
				continue
			}
			packet := r.expect(t, 1)[0]
			if got := icmp6Type(packet); got != byte(kind) {
				t.Errorf("queued type %d, expected %d (options %t)", got, kind, options)
			}
		}
	}
	if packet, err := r.next(50 * time.Millisecond); err == nil {
		t.Errorf("queued type %d too", icmp6Type(packet))
	}
}

// A netns that bridges can have what one neighbour sends to another as
// forwarded, with the hop limit that it was sent with: it is queued.
func TestBridgedNeighboursQueued(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p1, p2 := n.newPod(t), n.newPod(t)
	n.must(t, func() error { return writeFile("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1") })
	r := n.newReader(t, 80)
	n.set(t, "directions", "forward")
	n.set(t, "protocols", "icmpv6")
	n.set(t, "enabled", "1")
	before := n.status(t)
	from, to := p1.listenUDP(t, p1.v6), p2.listenUDP(t, p2.v6)
	nstest.Must(t, send(from, to, []byte("x")))
	for solicited := false; !solicited; { // a report of listeners may come too
		packet := r.expect(t, 1)[0]
		if packet.hook != hookForward {
			t.Fatalf("packet at hook %d, expected forward", packet.hook)
		}
		solicited = icmp6Type(packet) == 135 && packet.payload[7] == 255
		nstest.Must(t, r.accept(packet))
	}
	defer r.serve(nil)()
	if received(t, to, 1) != 1 {
		t.Error("the datagram behind the solicitation was not delivered")
	}
	// Only what is not forwarded is exempt.
	if now := n.status(t); now.count(t, "queued") == before.count(t, "queued") {
		t.Errorf("the counters are %v, were %v", now, before)
	}
}

func icmp6Type(p *packet) byte {
	if p.payload[6] == unix.IPPROTO_ICMPV6 {
		return p.payload[40]
	}
	return p.payload[48]
}

// What cannot be told is queued, unless no selected protocol is possible.
func TestCutOff(t *testing.T) {
	load(t, "queue_num=80")
	n := newNode(t)
	p := n.newPod(t)
	raw := n.openRaw(t, n.v6)
	p.set(t, "directions", "in")
	p.set(t, "enabled", "1")
	cut := map[string]struct {
		next byte
		body []byte
	}{
		"options": {unix.IPPROTO_DSTOPTS, []byte{unix.IPPROTO_TCP, 10, 0, 0, 0, 0, 0, 0}},
		"no_type": {unix.IPPROTO_ICMPV6, nil},
		"routing": {unix.IPPROTO_ROUTING, []byte{unix.IPPROTO_TCP}},
		"udp":     {unix.IPPROTO_UDP, []byte{0}},
		// A fragment header cut off never comes here: defragmentation drops it.
	}
	for name, c := range cut {
		r := p.newReader(t, 80)
		p.set(t, "protocols", "all")
		p.set(t, "queue_count", "4")
		p.set(t, "bypass", "1")
		before := p.status(t)
		raw.send(t, p.v6, c.next, c.body)
		if got := p.grown(t, before, "queued"); got[0] != 1 {
			t.Errorf("%s: queued %d, expected 1", name, got[0])
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		p.set(t, "protocols", "icmp")
		before = p.status(t)
		raw.send(t, p.v6, c.next, c.body)
		if got := p.grown(t, before, "queued"); got[0] != 0 {
			t.Errorf("%s: queued %d with IPv4's icmp only", name, got[0])
		}
	}
}

func TestProtocols(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	p.set(t, "directions", "in")
	p.set(t, "bypass", "1")
	p.set(t, "enabled", "1")
	for protocols, queued := range map[string]int{"udp": 1, "17": 1, "tcp": 0, "all": 1, "icmp,sctp": 0, "6,17": 1} {
		p.set(t, "protocols", protocols)
		before := p.status(t)
		f.in(t, []byte("x"))
		if received(t, f.pod, 1) != 1 {
			t.Fatal("the packet was not delivered")
		}
		if got := p.grown(t, before, "queued", "exempt"); got[0] != queued || queued == 0 && got[1] < 1 {
			t.Errorf("protocols %s: queued and exempt grew by %d, expected %d queued", protocols, got, queued)
		}
	}
}

// A header that says it is shorter than it can be has no known protocol: what follows
// at that place is the header's own.
func TestShortHeader(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	raw := p.openRaw(t, p.v4)
	p.set(t, "directions", "out")
	p.set(t, "bypass", "1")
	p.set(t, "enabled", "1")
	for protocols, queued := range map[string]int{"sctp": 1, "icmpv6": 0} {
		p.set(t, "protocols", protocols)
		for words := range byte(5) {
			packet := raw.packet(n.v4, unix.IPPROTO_UDP, 0, ports(1000, 2000))
			packet[0] = 0x40 | words
			before := p.status(t)
			err := raw.trySend(n.v4, packet)
			if errors.Is(err, unix.EINVAL) {
				t.Logf("this kernel sends no header of %d words", words)
				continue
			}
			nstest.Must(t, err)
			if got := p.grown(t, before, "queued")[0]; got != queued {
				t.Errorf("a header of %d words: queued %d with %s selected, expected %d",
					words, got, protocols, queued)
			}
		}
	}
}
