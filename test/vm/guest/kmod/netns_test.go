// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// A netns can be asked for, and told, what the module does in it.
type netns struct{ *nstest.NetNS }

func newNetns(t *testing.T) *netns {
	t.Helper()
	return &netns{nstest.New(t)}
}

func openNetns(t *testing.T, path string) *netns {
	t.Helper()
	return &netns{nstest.Open(t, path)}
}

// must runs f in the netns.
func (n *netns) must(t *testing.T, f func() error) {
	t.Helper()
	if err := n.Try(f); err != nil {
		t.Fatal(err)
	}
}

// A node has a bridge, and pods on it, as a bridge plugin makes them.
type node struct {
	*netns
	v4, v6 netip.Addr
	pods   int
}

type pod struct {
	*netns
	v4, v6 netip.Addr
}

const bridge = "cni0"

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{
		netns: newNetns(t),
		v4:    netip.MustParseAddr("10.230.96.1"),
		v6:    netip.MustParseAddr("fd00:230::1"),
	}
	n.must(t, func() error {
		link := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		link.Name = bridge
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		return configure(bridge, n.v4, n.v6)
	})
	return n
}

// newPod connects a new pod to the node, until the test ends.
func (n *node) newPod(t *testing.T) *pod {
	t.Helper()
	p, err := n.makePod()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// makePod is newPod for goroutines; the caller removes the pod.
func (n *node) makePod() (*pod, error) {
	ns, err := nstest.Create("pod")
	if err != nil {
		return nil, err
	}
	n.pods++
	p := &pod{
		netns: &netns{ns},
		v4:    netip.AddrFrom4([4]byte{10, 230, 96 + byte(n.pods/250), byte(2 + n.pods%250)}),
		v6:    netip.MustParseAddr(fmt.Sprintf("fd00:230::%x", 0x100+n.pods)),
	}
	if err := n.connect(p); err != nil {
		return nil, errors.Join(err, ns.Remove())
	}
	return p, nil
}

func (n *node) connect(p *pod) error {
	inside, err := os.Open(p.Path())
	if err != nil {
		return err
	}
	defer inside.Close()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.NewLinkAttrs(),
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(inside.Fd())),
	}
	veth.Name = fmt.Sprintf("veth%d", n.pods)
	err = n.Try(func() error {
		master, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, master); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	if err != nil {
		return fmt.Errorf("add %s: %w", veth.Name, err)
	}
	if err := p.Try(func() error { return configure("eth0", p.v4, p.v6) }); err != nil {
		return err
	}
	return errors.Join(n.AwaitUp(bridge), n.AwaitUp(veth.Name), p.AwaitUp("eth0"))
}

// configure gives a link its addresses and sets it up. The IPv6 one is valid at
// once: no test waits for duplicate address detection.
func configure(name string, v4, v6 netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	for _, prefix := range []netip.Prefix{netip.PrefixFrom(v4, 20), netip.PrefixFrom(v6, 64)} {
		mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
		err := netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: mask},
			Flags: unix.IFA_F_NODAD,
		})
		if err != nil {
			return fmt.Errorf("give %s address %s: %w", name, prefix, err)
		}
	}
	return nil
}

// tryListenUDP is nstest's ListenUDP for goroutines; the caller closes it.
func (n *netns) tryListenUDP(addr netip.Addr) (conn *net.UDPConn, err error) {
	err = n.Try(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	return conn, err
}

// listenUDP opens a socket at any port of the netns' address.
func (n *netns) listenUDP(t *testing.T, a netip.Addr, opts ...nstest.SocketOption) *net.UDPConn {
	t.Helper()
	return n.ListenUDP(t, netip.AddrPortFrom(a, 0).String(), opts...)
}
