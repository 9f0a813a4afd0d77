// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// settleProtocol tries a protocol whose packets begin with the two ports.
func settleProtocol(protocol uint8) func(*testing.T, hook.Hook) {
	return func(t *testing.T, h hook.Hook) {
		f := newFixture(t, h)
		s := f.armSettling(settling(1), false)
		request := settling(1).Settle.Request(false)
		s.change(func(p *queued) answer {
			if flow, ok := p.Flow(); ok && flow.Protocol == protocol {
				return answer{request: request}
			}
			return answer{}
		})
		for i, ends := range [][2]netip.Addr{
			{f.pod.IPv4(), f.peer.IPv4()}, {f.pod.IPv6(), f.peer.IPv6()},
		} {
			pod := rawSocket(t, f.pod, ends[0], protocol)
			peer := rawSocket(t, f.peer, ends[1], protocol)
			out := func(n int) int { return sendRaw(t, pod, peer, 1000, 2000, n) }
			if got := out(1); got != 1 {
				t.Fatalf("%s: the first packet did not arrive", ends[1])
			}
			if got := out(3) + sendRaw(t, peer, pod, 2000, 1000, 3); got != 6 {
				t.Errorf("%s: %d of 6 packets of the settled flow arrived", ends[1], got)
			}
			s.want(t, "of a settled flow", protocol, 2*i+1)
			// Another port is another flow.
			if got := sendRaw(t, pod, peer, 1001, 2000, 1); got != 1 {
				t.Errorf("%s: the packet of another flow did not arrive", ends[1])
			}
			s.want(t, "of another flow", protocol, 2*i+2)
		}
	}
}

// rawSocket returns a socket that has the packets of a protocol without their
// IP header, whether the kernel knows the protocol or not.
func rawSocket(
	t *testing.T, n *nstest.NetNS, addr netip.Addr, protocol uint8,
) *net.IPConn {
	t.Helper()
	network := fmt.Sprintf("ip6:%d", protocol)
	if addr.Is4() {
		network = fmt.Sprintf("ip4:%d", protocol)
	}
	var c *net.IPConn
	nstest.Must(t, n.Try(func() (err error) {
		c, err = net.ListenIP(network, &net.IPAddr{IP: addr.AsSlice()})
		return err
	}))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// sendRaw sends n packets between two ports and returns how many arrive.
func sendRaw(t *testing.T, from, to *net.IPConn, source, destination uint16, n int) int {
	t.Helper()
	packet := binary.BigEndian.AppendUint16(nil, source)
	packet = binary.BigEndian.AppendUint16(packet, destination)
	packet = append(packet, make([]byte, 28)...)
	for range n {
		_, err := from.WriteTo(packet, to.LocalAddr())
		nstest.Must(t, err)
	}
	return receive(t, to, n)
}

// The pod is a router between the two ends of a flow.
func testSettleForward(t *testing.T, h hook.Hook) {
	a, r, b := nstest.Line(t)
	f := &fixture{T: t, pod: a, peer: b, ns: open(t, r), handle: openHook(t, h, r)}
	for _, peer := range f.addresses() { // so that all link addresses are known
		if got := a.Ping(t, peer, 1, reply); got != 1 {
			t.Fatalf("%s does not answer through the pod", peer)
		}
	}
	s := f.armSettling(settling(1), false)
	for i, peer := range f.addresses() {
		f.talk(peer).wantBothWays()
		s.want(t, "of a forwarded flow", inspect.ProtoUDP, i+1)
	}
}
