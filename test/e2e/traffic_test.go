// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// port is where the tests' servers listen.
const port = "7000"

// address returns what to dial for a pod's address.
func address(a netip.Addr) string { return net.JoinHostPort(a.String(), port) }

// addresses returns all of a pod's.
func addresses(p *chain.Pod) []netip.Addr {
	var all []netip.Addr
	for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// exchange makes two pods talk in every way, in both directions.
func exchange(t *testing.T, a, b *chain.Pod) {
	t.Helper()
	for _, pair := range [][2]*chain.Pod{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		for _, addr := range addresses(to) {
			pingAll(t, from, addr)
			echoUDP(t, from, to, addr)
			echoTCP(t, from, to, addr)
		}
	}
}

// pingAll fails if any of three pings is not answered.
func pingAll(t *testing.T, from *chain.Pod, to netip.Addr) {
	t.Helper()
	if got := from.NetNS.Ping(t, to, 3, patience); got != 3 {
		t.Errorf("ping from %s to %s: %d of 3 answered", from.Name, to, got)
	}
}

func echoUDP(t *testing.T, from, to *chain.Pod, addr netip.Addr) {
	t.Helper()
	server := to.NetNS.ListenUDP(t, address(addr))
	defer server.Close()
	client := from.NetNS.DialUDP(t, address(addr))
	defer client.Close()
	expire(t, server, client)
	const question = "does a program look?"
	if _, err := client.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, peer, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != question {
		t.Fatalf("UDP from %s to %s: got %q, %v", from.Name, addr, buf[:n], err)
	}
	if _, err := server.WriteTo(buf[:n], peer); err != nil {
		t.Fatal(err)
	}
	if n, err = client.Read(buf); err != nil || string(buf[:n]) != question {
		t.Fatalf("UDP answer from %s to %s: got %q, %v", addr, from.Name, buf[:n], err)
	}
}

func echoTCP(t *testing.T, from, to *chain.Pod, addr netip.Addr) {
	t.Helper()
	listener := to.NetNS.ListenTCP(t, address(addr))
	defer listener.Close()
	client := from.NetNS.DialTCP(t, address(addr))
	defer client.Close()
	server, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	expire(t, server, client)
	// Large enough for segments that the kernel hands over in one piece.
	sent := strings.Repeat("0123456789abcdef", 64<<10/16)
	written := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte(sent))
		written <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != sent {
		t.Errorf("TCP from %s to %s: got %d bytes, %v", from.Name, addr, len(got), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func expire(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(nstest.Patient(patience))); err != nil {
			t.Fatal(err)
		}
	}
}

// sendNumbered sends n datagrams that carry their number.
func sendNumbered(t *testing.T, c *net.UDPConn, n int) {
	t.Helper()
	b := make([]byte, 64)
	for i := range n {
		binary.BigEndian.PutUint32(b, uint32(i))
		if _, err := c.Write(b); err != nil {
			t.Errorf("send datagram %d: %v", i, err)
		}
	}
}

// missingNumbers receives until it has n different numbers or the patience is
// over, and returns those that never came.
func missingNumbers(t *testing.T, c *net.UDPConn, n int) []int {
	t.Helper()
	expire(t, c)
	seen := make(map[uint32]bool)
	b := make([]byte, 64)
	for len(seen) < n {
		if _, err := io.ReadAtLeast(c, b, len(b)); err != nil {
			break
		}
		seen[binary.BigEndian.Uint32(b)] = true
	}
	var missing []int
	for i := range n {
		if !seen[uint32(i)] {
			missing = append(missing, i)
		}
	}
	return missing
}

// checkSeen pings from a to b, and expects the daemon to count what that is in
// a: three requests that leave and three replies that enter.
func (r *rig) checkSeen(t *testing.T, a, b *chain.Pod) {
	t.Helper()
	before := r.counters(t, a).Packets
	pingAll(t, a, b.IPv4)
	nstest.Eventually(t, patience, "packets of "+a.Name+" are counted", func() bool {
		return r.counters(t, a).Packets >= before+6
	})
}
