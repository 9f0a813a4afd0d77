// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// What a verdict of generation 1 asks for, see the module's README.
const (
	requestAccept = 1<<30 | 1<<24
	requestDrop   = 1<<31 | 1<<24
)

// awaitGrown waits until the counters have grown by so much since before.
func (n *netns) awaitGrown(t *testing.T, before status, want map[string]int) {
	t.Helper()
	var now status
	done := nstest.Poll(patience, func() bool {
		now = n.status(t)
		for key, by := range want {
			if now.count(t, key)-before.count(t, key) != by {
				return false
			}
		}
		return true
	})
	if !done {
		t.Errorf("the counters are %v, were %v, expected growth %v", now, before, want)
	}
}

func (n *netns) awaitFlows(t *testing.T, want int) {
	t.Helper()
	nstest.Eventually(t, patience, fmt.Sprintf("%d flows are settled", want), func() bool {
		return n.status(t).count(t, "flows") == want
	})
}

// options is an extension header that holds padding only, before next.
func options(next byte, body []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, body...)
}

type settleCase struct {
	v6        bool
	protocols string
	next      byte // of the IP header
	body      []byte
	reverse   []byte // behind a header without extensions
	settles   bool
}

func settleCases() map[string]settleCase {
	there, back := ports(1000, 2000), ports(2000, 1000)
	cases := map[string]settleCase{
		"options":     {true, "udp", unix.IPPROTO_DSTOPTS, options(unix.IPPROTO_UDP, there), back, true},
		"hop by hop":  {true, "tcp", unix.IPPROTO_HOPOPTS, options(unix.IPPROTO_TCP, there), back, true},
		"two headers": {true, "udp", unix.IPPROTO_HOPOPTS, options(unix.IPPROTO_DSTOPTS, options(unix.IPPROTO_UDP, there)), back, true},
		// Replies to nothing, which no program answers.
		"icmp":    {false, "icmp", unix.IPPROTO_ICMP, make([]byte, 8), make([]byte, 8), false},
		"icmpv6":  {true, "icmpv6", unix.IPPROTO_ICMPV6, []byte{129, 0, 0, 0}, []byte{129, 0, 0, 0}, false},
		"cut off": {false, "udp", unix.IPPROTO_UDP, there[:3], back[:3], false},
	}
	for protocol, settles := range map[byte]bool{
		unix.IPPROTO_TCP: true, unix.IPPROTO_UDP: true, unix.IPPROTO_UDPLITE: true,
		unix.IPPROTO_SCTP: true, unix.IPPROTO_DCCP: false, unix.IPPROTO_ESP: false,
	} {
		for _, v6 := range []bool{false, true} {
			cases[fmt.Sprintf("protocol %d v6=%t", protocol, v6)] = settleCase{
				v6, strconv.Itoa(int(protocol)), protocol, there, back, settles,
			}
		}
	}
	return cases
}

// Each packet asks for its flow; both directions then pass, or neither does.
func TestSettleProtocols(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	r := p.newReader(t, 80)
	r.request.Store(requestAccept)
	p.set(t, "enabled", "1")
	for name, c := range settleCases() {
		t.Run(name, func(t *testing.T) { testSettleProtocol(t, n, p, r, &c) })
	}
}

func testSettleProtocol(t *testing.T, n *node, p *pod, r *reader, c *settleCase) {
	outside, inside := n.v4, p.v4
	if c.v6 {
		outside, inside = n.v6, p.v6
	}
	from, back := n.openRaw(t, outside), p.openRaw(t, inside)
	last := lastHeader(c)
	p.set(t, "protocols", c.protocols)
	p.set(t, "generation", "1")
	before := p.status(t)
	in := func() { from.send(t, inside, c.next, c.body) }
	out := func() { back.send(t, outside, last, c.reverse) }
	in()
	nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	for _, send := range []func(){in, out} {
		send()
		if !c.settles {
			nstest.Must(t, r.accept(r.expect(t, 1)[0]))
		}
	}
	want := map[string]int{"queued": 3, "settled": 0}
	if c.settles {
		want["queued"], want["settled"] = 1, 2
		p.awaitFlows(t, 1)
	}
	p.awaitGrown(t, before, want)
	s := p.status(t)
	sum := s.count(t, "exempt") + s.count(t, "queued") + s.count(t, "settled")
	if seen := s.count(t, "seen"); seen != sum {
		t.Errorf("%d packets were seen, %d exempt, queued or settled", seen, sum)
	}
}

// lastHeader is the transport protocol of a case.
func lastHeader(c *settleCase) byte {
	next, body := c.next, c.body
	for next == unix.IPPROTO_HOPOPTS || next == unix.IPPROTO_DSTOPTS {
		next, body = body[0], body[8:]
	}
	return next
}

// A fragment that the kernel leaves alone is queued although its ports are
// those of a settled flow.
func TestSettleNoFragment(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	r := p.newReader(t, 80)
	r.request.Store(requestAccept)
	p.set(t, "protocols", "udp")
	p.set(t, "directions", "out")
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	raw := p.openRaw(t, p.v4)
	nstest.Must(t, unix.SetsockoptInt(raw.fd, unix.SOL_IP, unix.IP_NODEFRAG, 1))
	before := p.status(t)
	raw.send(t, n.v4, unix.IPPROTO_UDP, ports(1000, 2000))
	nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	raw.send(t, n.v4, unix.IPPROTO_UDP, ports(1000, 2000))
	const moreFragments = 0x2000
	for range 2 { // the first one asks for its flow too
		nstest.Must(t, raw.trySend(n.v4, raw.packet(n.v4, unix.IPPROTO_UDP, moreFragments, ports(1000, 2000))))
		nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	}
	p.awaitGrown(t, before, map[string]int{"queued": 3, "settled": 1})
	p.awaitFlows(t, 1)
}

func TestSettleForward(t *testing.T) {
	load(t, "")
	left, router, right := nstest.Line(t)
	a, n, b := &netns{left}, &netns{router}, &netns{right}
	r := n.newReader(t, 80)
	r.request.Store(requestAccept)
	defer r.serve(nil)()
	n.set(t, "directions", "forward")
	n.set(t, "protocols", "udp")
	n.set(t, "generation", "1")
	n.set(t, "enabled", "1")
	before := n.status(t)
	for _, f := range []*flow{
		{node: a.listenUDP(t, a.IPv4()), pod: b.listenUDP(t, b.IPv4())},
		{node: a.listenUDP(t, a.IPv6()), pod: b.listenUDP(t, b.IPv6())},
	} {
		for range 3 {
			f.in(t, []byte("x"))
			if received(t, f.pod, 1) != 1 {
				t.Fatal("a packet was not delivered")
			}
			f.out(t, []byte("x"))
			if received(t, f.node, 1) != 1 {
				t.Fatal("a packet was not delivered back")
			}
		}
	}
	n.awaitGrown(t, before, map[string]int{"queued": 2, "settled": 10})
}

// What one protocol or address family settles means nothing in another, where
// all numbers are alike.
func TestSettleOneProtocolOnly(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	r := p.newReader(t, 80)
	r.request.Store(requestDrop)
	p.set(t, "directions", "in")
	p.set(t, "protocols", "udp,tcp,sctp")
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	before := p.status(t)
	from := n.openRaw(t, n.v4)
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_SCTP} {
		from.send(t, p.v4, protocol, ports(1000, 2000))
		nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	}
	p.awaitFlows(t, 3)
	p.awaitGrown(t, before, map[string]int{"queued": 3, "settled": 0})
	// Not selected any more is not dropped any more.
	p.set(t, "protocols", "tcp")
	f := newFlow(t, n, p, false)
	f.in(t, []byte("x"))
	if received(t, f.pod, 1) != 1 {
		t.Error("a packet that is not selected was not delivered")
	}
	before = p.status(t)
	from.send(t, p.v4, unix.IPPROTO_UDP, ports(1000, 2000))
	p.awaitGrown(t, before, map[string]int{"exempt": 1, "settled": 0, "queued": 0})
}

// slabs says whether the kernel still keeps memory for flows of the module.
func slabs(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/slabinfo")
	nstest.Must(t, err)
	return bytes.Contains(text, []byte("\nnsq_flow "))
}
