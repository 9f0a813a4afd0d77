// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// A flow is a UDP socket on the node and one in the pod.
type flow struct{ node, pod *net.UDPConn }

// delivery is how long a packet may take that is on its way.
const delivery = time.Minute

func newFlow(t *testing.T, n *node, p *pod, v6 bool) *flow {
	t.Helper()
	from, to := n.v4, p.v4
	if v6 {
		from, to = n.v6, p.v6
	}
	return &flow{node: n.listenUDP(t, from), pod: p.listenUDP(t, to)}
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func send(from, to *net.UDPConn, data []byte) error {
	_, err := from.WriteToUDPAddrPort(data, addrOf(to))
	return err
}

// in sends to the pod, out sends from it. A send that the hook drops at once
// fails with EPERM, and that is no error of the test.
func (f *flow) in(t *testing.T, data []byte) { f.must(t, send(f.node, f.pod, data)) }

func (f *flow) out(t *testing.T, data []byte) { f.must(t, send(f.pod, f.node, data)) }

func (f *flow) must(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
}

// endReads lets reads fail after a while from now.
func endReads(t *testing.T, c *net.UDPConn, after time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(nstest.Patient(after))); err != nil {
		t.Fatal(err)
	}
}

// received returns how many packets come; it stops looking at the first pause.
func received(t *testing.T, c *net.UDPConn, want int) int {
	t.Helper()
	buf := make([]byte, 1<<16)
	n := 0
	for ; n < want; n++ {
		endReads(t, c, delivery)
		if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
			break
		}
	}
	return n
}

// nothing is a proof only because the veth and the hook work synchronously:
// what a send has not delivered when it returns was dropped or waits.
func nothing(t *testing.T, c *net.UDPConn) {
	t.Helper()
	endReads(t, c, 200*time.Millisecond)
	if n, _, err := c.ReadFromUDPAddrPort(make([]byte, 1<<16)); err == nil {
		t.Errorf("%d bytes arrived, expected none", n)
	}
}
