// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Pair returns two netns that are joined by a veth, eth0 in both:
//
//	a eth0 10.99.0.1/24 fd99::1/64 ---- b eth0 10.99.0.2/24 fd99::2/64
//
// The addresses are usable at once (no duplicate address detection).
func Pair(tb testing.TB) (a, b *NetNS) {
	tb.Helper()
	a, b = New(tb), New(tb)
	Must(tb, join(end{a, "eth0", "10.99.0.1/24", "fd99::1/64"},
		end{b, "eth0", "10.99.0.2/24", "fd99::2/64"}))
	return a, b
}

// Line returns three netns, of which r forwards IPv4 and IPv6 between the
// other two:
//
//	a eth0 10.99.1.1/24 fd99:1::1/64 ---- r eth0 10.99.1.254/24 fd99:1::fe/64
//	b eth0 10.99.2.1/24 fd99:2::1/64 ---- r eth1 10.99.2.254/24 fd99:2::fe/64
func Line(tb testing.TB) (a, r, b *NetNS) {
	tb.Helper()
	a, r, b = New(tb), New(tb), New(tb)
	Must(tb, join(end{a, "eth0", "10.99.1.1/24", "fd99:1::1/64"},
		end{r, "eth0", "10.99.1.254/24", "fd99:1::fe/64"}))
	Must(tb, join(end{b, "eth0", "10.99.2.1/24", "fd99:2::1/64"},
		end{r, "eth1", "10.99.2.254/24", "fd99:2::fe/64"}))
	Must(tb, r.Try(func() error {
		return errors.Join(
			Sysctl("net/ipv4/ip_forward", "1"), Sysctl("net/ipv6/conf/all/forwarding", "1"))
	}))
	Must(tb, a.Try(func() error { return defaultRoutes("10.99.1.254", "fd99:1::fe") }))
	Must(tb, b.Try(func() error { return defaultRoutes("10.99.2.254", "fd99:2::fe") }))
	return a, r, b
}

// Star returns n netns, at most 250, and one that is joined to each of them by a
// veth of its own:
//
//	pods[i] eth0 10.100.i.2/24 fd99:100:i::2/64 ---- hub podI 10.100.i.1/24 fd99:100:i::1/64
func Star(tb testing.TB, n int) (hub *NetNS, pods []*NetNS) {
	tb.Helper()
	hub = New(tb)
	for i := range n {
		pod := New(tb)
		Must(tb, join(
			end{pod, "eth0", fmt.Sprintf("10.100.%d.2/24", i), fmt.Sprintf("fd99:100:%x::2/64", i)},
			end{
				hub, fmt.Sprintf("pod%d", i), fmt.Sprintf("10.100.%d.1/24", i),
				fmt.Sprintf("fd99:100:%x::1/64", i),
			}))
		pods = append(pods, pod)
	}
	return hub, pods
}

// Sysctl writes a value below /proc/sys for the calling thread's netns, so call
// it in [NetNS.Do].
func Sysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
}

// end is one end of a veth.
type end struct {
	ns         *NetNS
	link       string
	ipv4, ipv6 string
}

// unlikePeer is an interface index that the peer's end does not get. The kernel
// takes a veth whose ends have equal indexes for a device of its own kind and
// tells IPv6 only a second later that it has a carrier.
const unlikePeer = 100

// join makes a veth between the two ends.
func join(a, b end) error {
	peer, err := os.Open(b.ns.path)
	if err != nil {
		return err
	}
	defer peer.Close()
	err = a.ns.Try(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: a.link, Index: unlikePeer},
			PeerName:      b.link,
			PeerNamespace: netlink.NsFd(int(peer.Fd())),
		})
	})
	if err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := errors.Join(a.configure(), b.configure()); err != nil {
		return err
	}
	return errors.Join(a.ns.AwaitUp(a.link), b.ns.AwaitUp(b.link), a.awaitIPv6(), b.awaitIPv6())
}

// AwaitUp waits until a link of the netns sends. The kernel takes up to a second
// to tell a link, above all a bridge, that it has a carrier; until then it drops
// what is sent, without an error.
func (ns *NetNS) AwaitUp(link string) error {
	var last error
	isUp := func() bool {
		up := false
		last = ns.Try(func() error {
			l, err := netlink.LinkByName(link)
			up = err == nil && l.Attrs().OperState == netlink.OperUp
			return err
		})
		return up
	}
	if !Poll(routeTimeout, isUp) {
		return fmt.Errorf("await carrier of %s: not within %v: %w", link, routeTimeout, last)
	}
	return nil
}

// awaitIPv6 waits for the route that makes the address the end's own. The
// kernel adds it in the background, after the address itself.
func (e end) awaitIPv6() error {
	addr := netip.MustParsePrefix(e.ipv6).Addr()
	var last error
	isLocal := func() bool {
		local := false
		last = e.ns.Try(func() error {
			routes, err := netlink.RouteGet(addr.AsSlice())
			local = len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
			return err
		})
		return local
	}
	if !Poll(routeTimeout, isLocal) {
		return fmt.Errorf("await local route to %s: not within %v: %w", addr, routeTimeout, last)
	}
	return nil
}

const routeTimeout = time.Minute // only for what hangs

// configure gives the end its addresses and sets it up.
func (e end) configure() error {
	err := e.ns.Try(func() error {
		link, err := netlink.LinkByName(e.link)
		if err != nil {
			return err
		}
		if err := Sysctl("net/ipv6/conf/"+e.link+"/accept_dad", "0"); err != nil {
			return err
		}
		for _, s := range []string{e.ipv4, e.ipv6} {
			addr, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			if addr.IP.To4() == nil {
				addr.Flags = syscall.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
	if err != nil {
		return fmt.Errorf("configure %s: %w", e.link, err)
	}
	if e.link == "eth0" {
		e.ns.ipv4 = netip.MustParsePrefix(e.ipv4).Addr()
		e.ns.ipv6 = netip.MustParsePrefix(e.ipv6).Addr()
	}
	return nil
}

func defaultRoutes(gateways ...string) error {
	for _, g := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(g)}); err != nil {
			return fmt.Errorf("add default route through %s: %w", g, err)
		}
	}
	return nil
}

// Canary puts one end of a veth into the netns and returns a function that
// reports whether the kernel has freed the netns since, which takes the other
// end along: that stays in the caller's netns and does not keep this one
// alive. Name is the link's in both.
func (ns *NetNS) Canary(name string) (freed func() bool, err error) {
	inside, err := os.Open(ns.path)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name},
		PeerName:      name,
		PeerNamespace: netlink.NsFd(int(inside.Fd())),
	})
	if err != nil {
		return nil, fmt.Errorf("add canary %s: %w", name, err)
	}
	return func() bool {
		_, err := netlink.LinkByName(name)
		_, gone := errors.AsType[netlink.LinkNotFoundError](err)
		return gone
	}, nil
}
