// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// ends are the addresses of the pod and of the peer.
func (f *fixture) ends() [][2]netip.Addr {
	return [][2]netip.Addr{{f.pod.IPv4(), f.peer.IPv4()}, {f.pod.IPv6(), f.peer.IPv6()}}
}

// connect makes a connection from that port of the pod, and ends it at once.
func (f *fixture) connect(ends [2]netip.Addr, port uint16) {
	f.Helper()
	l := f.peer.ListenTCP(f.T, netip.AddrPortFrom(ends[1], 40124).String())
	c := f.pod.DialTCP(f.T, l.Addr().String(), bindTo(netip.AddrPortFrom(ends[0], port)))
	accepted, err := l.Accept()
	nstest.Must(f.T, err)
	// A reset leaves both ends' addresses and ports free.
	nstest.Must(f.T, c.SetLinger(0))
	nstest.Must(f.T, errors.Join(c.Close(), accepted.Close(), l.Close()))
}

// bindTo has a socket send from an address and port that were used before.
func bindTo(from netip.AddrPort) nstest.SocketOption {
	return func(fd int) error {
		var addr unix.Sockaddr
		if from.Addr().Is4() {
			addr = &unix.SockaddrInet4{Port: int(from.Port()), Addr: from.Addr().As4()}
		} else {
			addr = &unix.SockaddrInet6{Port: int(from.Port()), Addr: from.Addr().As16()}
		}
		return errors.Join(
			os.NewSyscallError("setsockopt SO_REUSEADDR",
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
			os.NewSyscallError("bind", unix.Bind(fd, addr)))
	}
}

func testOpenAgain(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	s := f.armSettling(settling(1), false)
	for _, ends := range f.ends() {
		for _, when := range []string{"a first connection", "a second one of the same flow"} {
			before := s.count(inspect.ProtoTCP)
			f.connect(ends, 40123)
			s.want(t, fmt.Sprintf("%s from %s", when, ends[0]), inspect.ProtoTCP, before+1)
		}
	}
}

// The first SYN has the flow dropped; the one that TCP sends after a second is
// accepted, and with it the connection.
func testOpenDropped(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	selector := settling(1)
	f.arm(selector)
	s := settle(t, bind(t, f.ns, queueNumber), nil)
	for _, ends := range f.ends() {
		dropped := false
		s.change(func(*queued) answer {
			if dropped {
				return answer{request: selector.Settle.Request(false)}
			}
			dropped = true
			return answer{drop: true, request: selector.Settle.Request(true)}
		})
		before := s.count(inspect.ProtoTCP)
		f.connect(ends, 40123)
		s.want(t, fmt.Sprintf("two SYNs from %s", ends[0]), inspect.ProtoTCP, before+2)
	}
}

// opener sends packets of one flow that no kernel answers: their checksums are
// wrong.
type opener struct {
	*fixture
	settler    *settler
	generation uint8
	protocol   uint8
	sockets    [2]*net.IPConn // of the pod, of the peer
	ports      [2]uint16
}

const (
	outwards = 0
	inwards  = 1
)

func (f *fixture) opener(s *settler, protocol uint8, ends [2]netip.Addr) *opener {
	f.Helper()
	return &opener{
		fixture: f, settler: s, protocol: protocol, ports: [2]uint16{1000, 2000},
		sockets: [2]*net.IPConn{
			rawSocket(f.T, f.pod, ends[0], protocol), rawSocket(f.T, f.peer, ends[1], protocol),
		},
	}
}

// send sends what follows the ports. A hook that drops it may say so at once.
func (o *opener) send(way int, rest []byte) {
	o.Helper()
	packet := binary.BigEndian.AppendUint16(nil, o.ports[way])
	packet = binary.BigEndian.AppendUint16(packet, o.ports[1-way])
	_, err := o.sockets[way].WriteTo(append(packet, rest...), o.sockets[1-way].LocalAddr())
	if err != nil && !errors.Is(err, unix.EPERM) {
		o.Fatal(err)
	}
}

// want sends a packet and expects it to be queued, or decided for as its flow.
func (o *opener) want(when string, way int, rest []byte, queued bool) {
	o.Helper()
	settled := func() uint64 {
		c, err := o.handle.Counters()
		nstest.Must(o.T, err)
		return c.Settled
	}
	answered, decided := o.settler.answered(o.protocol), settled()
	o.send(way, rest)
	nstest.Eventually(o.T, reply, "the packet meets the hook", func() bool {
		return o.settler.answered(o.protocol) > answered || settled() > decided
	})
	if got := o.settler.answered(o.protocol) > answered; got != queued {
		o.Errorf("%s: % x from %s, ports %d: queued %t, want %t",
			when, rest, o.sockets[way].LocalAddr(), o.ports, got, queued)
	}
}

// begin settles the flow anew, by a packet like this one, and no other.
func (o *opener) begin(rest []byte, drop bool) answer {
	o.Helper()
	o.generation = o.generation%hook.MaxGeneration + 1
	selector := settling(o.generation)
	o.arm(selector)
	a := answer{drop: drop, request: selector.Settle.Request(drop)}
	o.settler.change(always(a))
	o.want("the packet that settles", outwards, rest, true)
	o.settler.change(always(answer{}))
	o.want("settled", outwards, rest, false)
	o.want("settled", inwards, rest, false)
	return a
}

// Flags of a TCP header.
const (
	tcpFin = 1 << iota
	tcpSyn
	tcpRst
	_
	tcpAck
	_
	tcpEce
	tcpCwr
)

// tcp is what follows the ports of a segment.
func tcp(flags byte) []byte {
	rest := make([]byte, 16)
	rest[8], rest[9] = 5<<4, flags
	rest[12] = 0xff // of the checksum
	return rest
}

// udp is what follows the ports of a datagram with this payload.
func udp(payload ...byte) []byte {
	return append([]byte{0, byte(8 + len(payload)), 0xff, 0}, payload...)
}

// eachOpener calls test for a flow of the protocol over IPv4 and over IPv6, in a pod
// that is armed to settle, and whose queue is served.
func eachOpener(t *testing.T, h hook.Hook, protocol uint8, test func(*opener)) {
	t.Helper()
	f := newFixture(t, h)
	f.arm(settling(hook.MaxGeneration))
	s := settle(t, bind(t, f.ns, queueNumber), always(answer{}))
	for _, ends := range f.ends() {
		test(f.opener(s, protocol, ends))
	}
}

func testOpenTCP(t *testing.T, h hook.Hook) {
	eachOpener(t, h, inspect.ProtoTCP, func(o *opener) {
		for _, drop := range []bool{false, true} {
			for _, way := range []int{outwards, inwards} {
				for _, flags := range []byte{tcpSyn, tcpSyn | tcpEce | tcpCwr, tcpSyn | tcpFin} {
					o.testOpens(flags, way, drop)
				}
				for _, flags := range []byte{tcpSyn | tcpAck, tcpAck, tcpRst, tcpFin | tcpAck, 0} {
					o.begin(tcp(tcpAck), drop)
					o.want("opens nothing", way, tcp(flags), false)
					o.want("still settled", 1-way, tcp(tcpAck), false)
				}
			}
		}
	})
}

func (o *opener) testOpens(flags byte, way int, drop bool) {
	o.Helper()
	a := o.begin(tcp(tcpAck), drop)
	o.want("opens", way, tcp(flags), true)
	o.want("of the new connection", outwards, tcp(tcpAck), true)
	o.want("of the new connection", inwards, tcp(tcpAck), true)
	// What decides about the new connection holds for it.
	o.settler.change(always(a))
	o.want("opens again", way, tcp(flags), true)
	o.settler.change(always(answer{}))
	o.want("of the settled connection", inwards, tcp(tcpAck), false)
	o.want("of the settled connection", outwards, tcp(tcpAck), false)
}

func testOpenWaited(t *testing.T, h hook.Hook) {
	f := newFixture(t, h)
	for _, drop := range []bool{false, true} {
		selector := settling(1)
		f.arm(all())
		f.arm(selector)
		q := bind(t, f.ns, queueNumber)
		o := f.opener(nil, inspect.ProtoTCP, f.ends()[0])
		o.send(outwards, tcp(tcpRst))
		o.send(outwards, tcp(tcpSyn))
		first := true
		o.settler = settle(t, q, func(*queued) answer {
			if !first {
				return answer{}
			}
			first = false
			return answer{drop: drop, request: selector.Settle.Request(drop)}
		})
		nstest.Eventually(t, reply, "both verdicts", func() bool {
			return o.settler.answered(inspect.ProtoTCP) == 2
		})
		o.want("of the new connection", outwards, tcp(tcpAck), true)
		o.want("of the new connection", inwards, tcp(tcpAck), true)
		o.settler.stop()
	}
}

// Without flags it cannot be told whether a segment opens a connection.
func testOpenCutOff(t *testing.T, h hook.Hook) {
	eachOpener(t, h, inspect.ProtoTCP, func(o *opener) {
		o.begin(tcp(tcpAck), false)
		o.want("without its flags", outwards, tcp(tcpAck)[:9], true)
		o.want("without more than ports", outwards, nil, true)
		o.want("still settled", outwards, tcp(tcpAck), false)
	})
}

func testOpenQUIC(t *testing.T, h hook.Hook) {
	eachOpener(t, h, inspect.ProtoUDP, func(o *opener) {
		for _, c := range []struct {
			ports   [2]uint16
			payload []byte
			queued  bool
		}{
			{[2]uint16{1000, 2000}, []byte{0xc0}, true},
			{[2]uint16{1000, 2000}, []byte{0xff, 1, 2}, true},
			{[2]uint16{1000, 2000}, []byte{0xbf}, false},
			{[2]uint16{1000, 2000}, []byte{0x40}, false},
			{[2]uint16{1000, 2000}, nil, false},
			{[2]uint16{443, 2000}, []byte{0x80}, true},
			{[2]uint16{1000, 443}, []byte{0x80}, true},
			{[2]uint16{1000, 443}, []byte{0x7f}, false},
			{[2]uint16{1000, 443}, nil, false},
		} {
			for _, drop := range []bool{false, true} {
				o.ports = c.ports
				o.testQUIC(c.payload, c.queued, drop)
			}
		}
	})
}

// testQUIC sends a datagram with the payload both ways of a settled flow.
func (o *opener) testQUIC(payload []byte, queued, drop bool) {
	o.Helper()
	o.begin(udp(0x40, 1), drop)
	o.want("begins as QUIC or not", outwards, udp(payload...), queued)
	o.want("begins as QUIC or not", inwards, udp(payload...), queued)
	// The connection that is there stays settled.
	o.want("still settled", outwards, udp(0x40, 1), false)
}
