// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Flags of a TCP header.
const (
	tcpFin = 1 << 0
	tcpSyn = 1 << 1
	tcpRst = 1 << 2
	tcpAck = 1 << 4
	tcpEce = 1 << 6
	tcpCwr = 1 << 7
)

// A settling has a reader that accepts, and packets of one flow in both
// directions, which no kernel answers: their checksums are wrong.
type settling struct {
	*testing.T
	pod      *pod
	r        *reader
	next     byte
	ends     [2]*raw
	to       [2]netip.Addr
	ports    [2][2]uint16
	extended bool
}

const (
	inwards  = 0
	outwards = 1
)

func newSettling(t *testing.T, next byte, v6 bool) *settling {
	t.Helper()
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	outside, inside := n.v4, p.v4
	if v6 {
		outside, inside = n.v6, p.v6
	}
	s := &settling{
		T: t, pod: p, r: p.newReader(t, 80), next: next,
		ends:  [2]*raw{n.openRaw(t, outside), p.openRaw(t, inside)},
		to:    [2]netip.Addr{inside, outside},
		ports: [2][2]uint16{{1000, 2000}, {2000, 1000}}, extended: v6,
	}
	p.set(t, "protocols", "tcp,udp")
	p.set(t, "enabled", "1")
	return s
}

// send sends what follows the ports, behind extension headers over IPv6.
func (s *settling) send(way int, rest []byte) {
	s.Helper()
	body := append(ports(s.ports[way][0], s.ports[way][1])[:4], rest...)
	next := s.next
	if s.extended {
		next, body = unix.IPPROTO_DSTOPTS, options(s.next, body)
	}
	from, to := s.ends[way], s.to[way]
	err := from.trySend(to, from.packet(to, next, 0, body))
	if err != nil && !errors.Is(err, unix.EPERM) { // the hook drops at once
		s.Fatal(err)
	}
}

// tcp is what follows the ports of a segment.
func tcp(flags byte) []byte {
	rest := make([]byte, 16)
	rest[8], rest[9] = 5<<4, flags
	return rest
}

// udp is what follows the ports of a datagram with this payload.
func udp(payload ...byte) []byte {
	return append([]byte{0, byte(8 + len(payload)), 0, 0}, payload...)
}

// answer accepts the next packet with the request.
func (s *settling) answer(request uint32) {
	s.Helper()
	s.accept(s.r.expect(s.T, 1)[0], request)
}

func (s *settling) accept(p *packet, request uint32) {
	s.Helper()
	s.r.request.Store(request)
	nstest.Must(s.T, s.r.accept(p))
}

// begin settles the flow again, by a packet like this one.
func (s *settling) begin(rest []byte, request uint32) {
	s.Helper()
	s.pod.set(s.T, "generation", "1")
	s.send(inwards, rest)
	s.answer(request)
	s.wantFlows(1)
	s.want(inwards, rest, 0)
	s.want(outwards, rest, 0)
}

func (s *settling) wantFlows(n int) {
	s.Helper()
	if got := s.pod.status(s.T).count(s.T, "flows"); got != n {
		s.Errorf("%d flows are settled, expected %d", got, n)
	}
}

// want sends a packet and expects that so many of it are queued, accepts these
// and asks for nothing.
func (s *settling) want(way int, rest []byte, queued int) {
	s.Helper()
	before := s.pod.status(s.T)
	s.send(way, rest)
	s.pod.awaitGrown(s.T, before, map[string]int{"queued": queued, "settled": 1 - queued})
	for range queued {
		s.answer(0)
	}
}

func TestSettleNotTheStartOfTCP(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%t", v6), func(t *testing.T) {
			s := newSettling(t, unix.IPPROTO_TCP, v6)
			for _, request := range []uint32{requestAccept, requestDrop} {
				for _, way := range []int{inwards, outwards} {
					for flags, opens := range map[byte]bool{
						tcpSyn: true, tcpSyn | tcpEce | tcpCwr: true, tcpSyn | tcpFin: true,
						tcpSyn | tcpAck: false, tcpAck: false, tcpRst: false, tcpFin | tcpAck: false,
					} {
						s.testStartOfTCP(request, way, flags, opens)
					}
				}
			}
			nstest.Must(t, s.r.Close())
			nstest.Must(t, rmmod())
		})
	}
}

func (s *settling) testStartOfTCP(request uint32, way int, flags byte, opens bool) {
	s.Helper()
	s.begin(tcp(tcpAck), request)
	if !opens {
		s.want(way, tcp(flags), 0)
		s.wantFlows(1)
		return
	}
	s.want(way, tcp(flags), 1)
	s.wantFlows(0)
	s.want(inwards, tcp(tcpAck), 1)
	s.want(outwards, tcp(tcpAck), 1)
	// What decides about the new connection holds for it.
	s.send(way, tcp(flags))
	s.answer(request)
	s.wantFlows(1)
	s.want(inwards, tcp(tcpAck), 0)
}

// A segment that waits before the start of a new connection settles the old one.
func TestSettleNotByWhatWaitedBefore(t *testing.T) {
	s := newSettling(t, unix.IPPROTO_TCP, false)
	s.pod.set(t, "generation", "1")
	s.send(outwards, tcp(tcpRst))
	s.send(outwards, tcp(tcpSyn))
	held := s.r.expect(t, 2)
	s.accept(held[0], requestAccept)
	s.wantFlows(1)
	s.accept(held[1], 0)
	s.wantFlows(0)
	s.want(outwards, tcp(tcpAck), 1)
}

// A segment without its flags cannot be told from a start.
func TestSettleNotCutOffTCP(t *testing.T) {
	s := newSettling(t, unix.IPPROTO_TCP, false)
	s.begin(tcp(tcpAck), requestAccept)
	s.want(outwards, tcp(tcpAck)[:9], 1)
	s.want(outwards, nil, 1)
	s.wantFlows(1)
	s.want(outwards, tcp(tcpAck), 0)
}

type quicCase struct {
	ports  [2]uint16
	first  []byte // of the payload
	queued int
}

func quicCases() []quicCase {
	return []quicCase{
		{[2]uint16{1000, 2000}, []byte{0xc0}, 1},
		{[2]uint16{1000, 2000}, []byte{0xff, 1, 2}, 1},
		{[2]uint16{1000, 2000}, []byte{0xbf}, 0},
		{[2]uint16{1000, 2000}, []byte{0x40}, 0},
		{[2]uint16{1000, 2000}, nil, 0},
		{[2]uint16{443, 2000}, []byte{0x80}, 1},
		{[2]uint16{1000, 443}, []byte{0x80}, 1},
		{[2]uint16{1000, 443}, []byte{0x7f}, 0},
		{[2]uint16{1000, 443}, nil, 0},
	}
}

func TestSettleNotTheStartOfQUIC(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newSettling(t, unix.IPPROTO_UDP, v6)
		for _, c := range quicCases() {
			t.Run(fmt.Sprintf("%d %x v6=%t", c.ports, c.first, v6), func(t *testing.T) {
				s.T = t
				s.ports = [2][2]uint16{c.ports, {c.ports[1], c.ports[0]}}
				s.begin(udp(0x40, 1), requestAccept)
				s.want(inwards, udp(c.first...), c.queued)
				s.want(outwards, udp(c.first...), c.queued)
				// The connection that is there stays settled.
				s.wantFlows(1)
				s.want(outwards, udp(0x40, 1), 0)
			})
		}
		nstest.Must(t, s.r.Close())
		nstest.Must(t, rmmod())
	}
}

// Datagrams that are sent together meet the hook as one packet.
func TestSettleNotTheStartOfQUICAmongSegments(t *testing.T) {
	load(t, "")
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	r := p.newReader(t, 80)
	p.set(t, "directions", "out")
	p.set(t, "protocols", "udp")
	p.set(t, "generation", "1")
	p.set(t, "enabled", "1")
	f.out(t, []byte("settles"))
	r.request.Store(requestAccept)
	nstest.Must(t, r.accept(r.expect(t, 1)[0]))
	segment(t, f.pod, 4)
	before := p.status(t)
	f.out(t, []byte("@123@123@1"))
	p.awaitGrown(t, before, map[string]int{"queued": 0, "settled": 1})
	f.out(t, []byte("@123@123\xc3"))
	p.awaitGrown(t, before, map[string]int{"queued": 1, "settled": 1})
	for _, packet := range r.expect(t, 3) {
		nstest.Must(t, r.accept(packet))
	}
	if got := received(t, f.node, 7); got != 7 {
		t.Errorf("%d of 7 datagrams were delivered", got)
	}
}

// segment has what the socket sends cut into datagrams of so many bytes.
func segment(t *testing.T, c *net.UDPConn, size int) {
	t.Helper()
	nstest.Must(t, fdcontrol.Do(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size)
	}))
}
