// SPDX-License-Identifier: Apache-2.0

//go:build netns

package evasion

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

func isErrno(err error, want syscall.Errno) bool { return errors.Is(err, want) }

// The kernel puts fragments together before they are judged.
func TestKernelFragments(t *testing.T) {
	for family, of := range map[string]func(*nstest.NetNS) netip.Addr{
		"IPv4": (*nstest.NetNS).IPv4, "IPv6": (*nstest.NetNS).IPv6,
	} {
		t.Run(family, func(t *testing.T) {
			kernel(t, func(b *bed, name string) {
				s := b.serve(b.pod, port(of(b.pod), 0))
				c := b.peer.DialTCP(b.t, s.addr())
				s.await()
				hello := record(helloOf(name))
				list := fragments(next(b.t, c, hello).packet(), 80)
				slices.Reverse(list)
				raw(b.t, b.peer, list...)
				b.wantHello(s, c, hello, name)
				if b.inspector.fragments.Load() > 0 {
					b.t.Error("fragments were judged")
				}
			})
		})
	}
}

// A hello that the kernel has yet to cut into segments is found at its start.
func TestKernelMergedSegments(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		s := b.serve(b.peer, port(b.peer.IPv4(), 0))
		c := b.pod.DialTCP(b.t, s.addr())
		s.await()
		hello := record(helloOf(name))
		_, err := c.Write(slices.Concat(hello, make([]byte, 60000)))
		must(b.t, err)
		b.wantHello(s, c, hello, name)
		if b.inspector.merged.Load() == 0 {
			b.t.Error("no merged packet was judged")
		}
	})
}

// Datagrams that a program sends by one call are judged one by one.
func TestKernelMergedDatagrams(t *testing.T) {
	for _, c := range []struct {
		name   string
		behind int // the message, in its datagram
		hidden bool
	}{{name: "messages"}, {name: "messages with bytes behind them", behind: 4, hidden: true}} {
		t.Run(c.name, func(t *testing.T) {
			kernel(t, func(b *bed, name string) {
				server := b.peer.ListenUDP(b.t, port(b.peer.IPv4(), 53))
				var size int
				from := b.pod.DialUDP(b.t, port(b.peer.IPv4(), 53), func(fd int) error {
					size = len(query(1, allowedName)) + c.behind
					return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
				})
				pad := make([]byte, c.behind)
				_, err := from.Write(slices.Concat(query(1, allowedName), pad, query(2, name), pad))
				must(b.t, err)
				passes := name == allowedName && !c.hidden
				if !passes {
					nstest.Eventually(b.t, patience, "the packet is refused", func() bool {
						s := b.inspector.Stats()
						return s.Outside > 0 || s.Verdicts["reject"] > 0
					})
				}
				probe := b.pod.DialUDP(b.t, port(b.peer.IPv4(), 53))
				_, err = probe.Write(query(3, allowedName))
				must(b.t, err)
				if got := ids(b.t, server); passes != bytes.Equal(got, []byte{1, 2, 3}) || passes != (len(got) > 1) {
					b.t.Errorf("the server got the queries %v", got)
				}
				if b.inspector.merged.Load() == 0 {
					b.t.Error("no merged packet was judged")
				}
			})
		})
	}
}

// ids returns those of the queries that come up to number 3.
func ids(t *testing.T, server *net.UDPConn) (list []byte) {
	t.Helper()
	b := make([]byte, 2048)
	must(t, server.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
	for len(list) == 0 || list[len(list)-1] != 3 {
		_, err := server.Read(b)
		must(t, err)
		list = append(list, b[1])
	}
	return list
}

// A hello that comes with the SYN is refused with it.
func TestKernelFastOpen(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		const bothWithoutCookies = "519"
		for _, ns := range []*nstest.NetNS{b.pod, b.peer} {
			must(b.t, ns.Try(func() error {
				return nstest.Sysctl("net/ipv4/tcp_fastopen", bothWithoutCookies)
			}))
		}
		s := b.serve(b.peer, port(b.peer.IPv4(), 0), func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
		})
		hello := record(helloOf(name))
		to := netip.MustParseAddrPort(s.addr())
		var fd int
		err := b.pod.Try(func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Sendto(fd, hello, unix.MSG_FASTOPEN, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		})
		defer unix.Close(fd)
		if name == blockedName {
			if err == nil {
				_, err = unix.Read(fd, make([]byte, 1))
			}
			if !isRefused(err) {
				b.t.Errorf("the client: %v", err)
			}
		} else {
			must(b.t, err)
		}
		b.wantHello(s, nil, hello, name)
		if b.inspector.early.Load() == 0 {
			b.t.Error("no SYN had the hello")
		}
	})
}

// fromPort binds a client to a port that was used before.
func fromPort(addr netip.Addr, port int) nstest.SocketOption {
	return func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4(), Port: port})
	}
}

// The kernel has a settled connection, and not the next one between the same ports.
func TestKernelSamePorts(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		s := b.serve(b.peer, port(b.peer.IPv4(), 0))
		first := record(helloOf(allowedName))
		c := b.pod.DialTCP(b.t, s.addr(), fromPort(b.pod.IPv4(), 40000))
		_, err := c.Write(first)
		must(b.t, err)
		b.wantHello(s, nil, first, allowedName)
		_, err = c.Read(make([]byte, 5))
		must(b.t, err)
		nstest.Eventually(b.t, patience, "the connection is settled", func() bool { return b.settled() > 0 })
		must(b.t, c.SetLinger(0))
		must(b.t, c.Close())
		c = b.pod.DialTCP(b.t, s.addr(), fromPort(b.pod.IPv4(), 40000))
		s.await()
		hello := record(helloOf(name))
		_, err = c.Write(hello)
		must(b.t, err)
		b.wantHello(s, c, hello, name)
	})
}

// The same of QUIC.
func TestKernelSamePortsOfQUIC(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		server := b.peer.ListenUDP(b.t, port(b.peer.IPv4(), 443))
		c := b.pod.DialUDP(b.t, port(b.peer.IPv4(), 443))
		arrives := func(datagram []byte) bool {
			_, err := c.Write(datagram)
			must(b.t, err)
			must(b.t, server.SetReadDeadline(time.Now().Add(nstest.Patient(time.Second))))
			n, err := server.Read(make([]byte, 2048))
			return err == nil && n == len(datagram)
		}
		hello := func(dcid, name string) []byte {
			return initial{dcid: dcid, frames: plain(helloOf(name)), size: 1200}.seal(b.t)
		}
		if !arrives(hello("12345678", allowedName)) {
			b.t.Error("the first hello did not arrive")
		}
		nstest.Eventually(b.t, patience, "the flow is settled", func() bool { return b.settled() > 0 })
		if !arrives(make([]byte, 100)) {
			b.t.Error("what follows it did not arrive")
		}
		if arrives(hello("abcdefgh", name)) != (name == allowedName) {
			b.t.Errorf("the hello of %s", name)
		}
	})
}

// What the receiver throws away does not count.
func TestKernelChecksum(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		s := b.serve(b.pod, port(b.pod.IPv4(), 0))
		c := b.peer.DialTCP(b.t, s.addr())
		decoy := next(b.t, c, record(helloOf(allowedName))).packet()
		decoy[36] ^= 0x55
		raw(b.t, b.peer, decoy)
		nstest.Eventually(b.t, patience, "the decoy is counted", func() bool { return b.inspector.Stats().Checksums == 1 })
		hello := record(helloOf(name))
		_, err := c.Write(hello)
		must(b.t, err)
		b.wantHello(s, c, hello, name)
	})
}

// An end that the server does not believe ends nothing.
func TestKernelForgedEnd(t *testing.T) {
	for kind, flags := range map[string]uint8{"RST": rst, "FIN": fin | ack} {
		t.Run(kind, func(t *testing.T) {
			kernel(t, func(b *bed, name string) {
				s := b.serve(b.peer, port(b.peer.IPv4(), 0))
				c := b.pod.DialTCP(b.t, s.addr())
				s.await()
				forged := next(b.t, c, nil)
				forged.flags, forged.seq = flags, forged.seq+1<<24
				raw(b.t, b.pod, forged.packet())
				hello := record(helloOf(name))
				_, err := c.Write(hello)
				must(b.t, err)
				b.wantHello(s, c, hello, name)
			})
		})
	}
}

// Connections of MPTCP have one way only, on which the hello is found.
func TestKernelMPTCP(t *testing.T) {
	kernel(t, func(b *bed, name string) {
		for _, ns := range []*nstest.NetNS{b.pod, b.peer} {
			// So long the kernel waits for another subflow before it tells a program.
			must(b.t, ns.Try(func() error { return nstest.Sysctl("net/mptcp/close_timeout", "1") }))
		}
		s := b.serve(b.peer, port(b.peer.IPv4(), 0)) // Go listens with MPTCP
		var c *net.TCPConn
		must(b.t, b.pod.Try(func() error {
			d := net.Dialer{}
			d.SetMultipathTCP(true)
			ctx, cancel := context.WithTimeout(b.t.Context(), nstest.Patient(patience))
			defer cancel()
			conn, err := d.DialContext(ctx, "tcp", s.addr())
			if err == nil {
				c = conn.(*net.TCPConn)
			}
			return err
		}))
		defer c.Close()
		if is, err := c.MultipathTCP(); !is || err != nil {
			b.t.Logf("the connection is not of MPTCP: %v", err)
		}
		join := segment{
			from: netip.AddrPortFrom(b.pod.IPv4(), 40001), to: netip.MustParseAddrPort(s.addr()), flags: syn,
			options: []byte{30, 12, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2},
		}
		raw(b.t, b.pod, join.packet())
		nstest.Eventually(b.t, patience, "the subflow is refused", func() bool { return b.inspector.Stats().Subflows == 1 })
		hello := record(helloOf(name))
		_, err := c.Write(hello)
		must(b.t, err)
		b.wantHello(s, c, hello, name)
	})
}
