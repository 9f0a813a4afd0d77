// SPDX-License-Identifier: Apache-2.0

//go:build netns

package reject

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const (
	reply   = 10 * time.Second
	silence = 200 * time.Millisecond
)

// newTestSender returns a sender of a pod.
func newTestSender(tb testing.TB, pod *nstest.NetNS) *Sender {
	tb.Helper()
	ns, err := netns.Open(pod.Path())
	nstest.Must(tb, err)
	s := NewSender(ns, new(Untold))
	tb.Cleanup(func() { nstest.Must(tb, errors.Join(s.Close(), ns.Close())) })
	return s
}

// listen returns a socket of a netns that gets what comes of a protocol.
func listen(tb testing.TB, ns *nstest.NetNS, network string) *net.IPConn {
	tb.Helper()
	var c *net.IPConn
	nstest.Must(tb, ns.Try(func() error {
		var err error
		c, err = net.ListenIP(network, nil)
		return err
	}))
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// gets reports whether an error of ICMP comes that quotes a packet.
func gets(tb testing.TB, c *net.IPConn, quoted []byte, patience time.Duration) bool {
	tb.Helper()
	nstest.Must(tb, c.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromIP(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		nstest.Must(tb, err)
		if bytes.Contains(buf[:n], quoted) {
			return true
		}
	}
}

// Only the pod's own address is told of what the pod has sent, and nobody of what came
// to an address that is not the pod's.
func TestForgedSourceIsNotTold(t *testing.T) {
	pod, peer := nstest.Pair(t)
	for _, tt := range []struct {
		network         string
		own, other, far netip.Addr
	}{
		{
			"ip4:icmp", pod.IPv4(), peer.IPv4(),
			netip.MustParseAddr("192.0.2.9"),
		},
		{
			"ip6:ipv6-icmp", pod.IPv6(), peer.IPv6(),
			netip.MustParseAddr("2001:db8::9"),
		},
	} {
		s := newTestSender(t, pod)
		atPod, atPeer := listen(t, pod, tt.network), listen(t, peer, tt.network)
		for _, one := range []struct {
			direction inspect.Direction
			from, to  netip.Addr
			at        *net.IPConn
			told      bool
		}{
			{inspect.Out, tt.own, tt.far, atPod, true},
			{inspect.Out, tt.other, tt.far, atPeer, false},
			{inspect.In, tt.other, tt.own, atPeer, true},
			{inspect.In, tt.other, tt.far, atPeer, false},
		} {
			p := packet(ip(one.from, one.to, inspect.ProtoUDP, datagram(20)))
			p.Direction = one.direction
			if got := s.Reject(p, 0, 0); got != one.told {
				t.Errorf("%v from %v to %v: told %t", one.direction, one.from, one.to, got)
			}
			patience := silence
			if one.told {
				patience = reply
			}
			if got := gets(t, one.at, p.Payload, patience); got != one.told {
				t.Errorf("%v from %v to %v: the sender heard of it: %t", one.direction, one.from,
					one.to, got)
			}
		}
	}
}

// Who sends through the pod is told by the interface that it sends by, whatever its
// address.
func TestForwardedIsTold(t *testing.T) {
	pod, peer := nstest.Pair(t)
	s := newTestSender(t, pod)
	index := uint32(0)
	nstest.Must(t, pod.Try(func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			index = uint32(link.Index)
		}
		return err
	}))
	for network, from := range map[string]netip.Addr{
		"ip4:icmp": peer.IPv4(), "ip6:ipv6-icmp": peer.IPv6(),
	} {
		to := netip.MustParseAddr("192.0.2.9")
		if from.Is6() {
			to = netip.MustParseAddr("2001:db8::9")
		}
		at := listen(t, peer, network)
		p := packet(ip(from, to, inspect.ProtoUDP, datagram(20)))
		p.Direction, p.InDev, p.OutDev = inspect.Forward, index, index
		if !s.Reject(p, 0, 0) || !gets(t, at, p.Payload, reply) {
			t.Errorf("%v was not told", from)
		}
	}
}

// Sockets are closed when they have not been used for long, and opened again.
func TestIdleSocketsAreClosed(t *testing.T) {
	pod, peer := nstest.Pair(t)
	s := newTestSender(t, pod)
	p := packet(ip(pod.IPv4(), peer.IPv4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	for range 2 {
		if !s.Reject(p, 0, 1) || len(s.sockets) != 1 {
			t.Fatalf("not told, or %d sockets", len(s.sockets))
		}
		s.closeIdle()
		if len(s.sockets) != 1 {
			t.Error("closed while it was used")
		}
		s.began = s.began.Add(-idle)
		s.closeIdle()
		if len(s.sockets) != 0 {
			t.Error("not closed")
		}
	}
	nstest.Must(t, s.Close())
	if s.Reject(p, 0, 0) {
		t.Error("told by what is closed")
	}
}

// What is beyond the limit is not told, and a quiet time later it is again.
func TestSenderIsLimited(t *testing.T) {
	pod, peer := nstest.Pair(t)
	s := newTestSender(t, pod)
	p := packet(ip(pod.IPv4(), peer.IPv4(), inspect.ProtoUDP, datagram(1)))
	began, told := time.Now(), 0
	for range 10 * burst {
		if s.Reject(p, 0, 0) {
			told++
		}
	}
	most := burst + 1 + int(time.Since(began)/(time.Second/perSecond))
	if told < burst || told > most {
		t.Errorf("%d told, want %d to %d", told, burst, most)
	}
	if n := s.untold.Counts(); n != (UntoldCounts{TooMany: uint64(10*burst - told)}) {
		t.Errorf("%+v of %d that were not told", n, 10*burst-told)
	}
	s.began = s.began.Add(-time.Second)
	if !s.Reject(p, 0, 0) {
		t.Error("not told a second later")
	}
}

// A full socket is not waited for.
func TestFullSocketIsNotWaitedFor(t *testing.T) {
	pod, _ := nstest.Pair(t)
	s := newTestSender(t, pod)
	// Nobody has this address, so that answers wait for its link address.
	p := packet(ip(netip.MustParseAddr("10.99.0.77"), pod.IPv4(), inspect.ProtoUDP, datagram(500)))
	p.Direction = inspect.In
	if !s.Reject(p, 0, 0) {
		t.Fatal("the first one is not told")
	}
	nstest.Must(t, unix.SetsockoptInt(s.sockets[unix.AF_INET], unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	full := false
	for range burst {
		full = full || !s.Reject(p, 0, 0)
	}
	if n := s.untold.Counts(); !full || n.Unsent == 0 || n.SendError == nil || n.NoSocket > 0 {
		t.Errorf("a full socket takes everything: %+v", n)
	}
}

// Where no socket can be opened, it is not tried for each packet.
func TestNoSocket(t *testing.T) {
	pod, peer := nstest.Pair(t)
	s := newTestSender(t, pod)
	p := packet(ip(pod.IPv4(), peer.IPv4(), inspect.ProtoUDP, datagram(1)))
	var limit unix.Rlimit
	nstest.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := unix.Rlimit{Max: limit.Max}
	nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	told := s.Reject(p, 0, 0)
	nstest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if told || s.Reject(p, 0, 0) {
		t.Error("told")
	}
	if n := s.untold.Counts(); n.NoSocket != 2 || !errors.Is(n.SocketError, unix.EMFILE) {
		t.Errorf("%+v", n)
	}
	s.began = s.began.Add(-retry)
	if !s.Reject(p, 0, 0) {
		t.Error("not told a second later")
	}
}

// BenchmarkReject has both ends of a connection told.
func BenchmarkReject(b *testing.B) {
	pod, peer := nstest.Pair(b)
	s := newTestSender(b, pod)
	p := packet(ip(pod.IPv4(), peer.IPv4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	for b.Loop() {
		s.limit.left = burst
		if !s.Reject(p, 0, 0) {
			b.Fatal("not told")
		}
	}
}

// BenchmarkFirstReject opens the socket, too.
func BenchmarkFirstReject(b *testing.B) {
	pod, peer := nstest.Pair(b)
	s := newTestSender(b, pod)
	p := packet(ip(pod.IPv4(), peer.IPv4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	for b.Loop() {
		s.limit.left = burst
		if !s.Reject(p, 0, 0) {
			b.Fatal("not told")
		}
		nstest.Must(b, s.closeSockets())
	}
}
