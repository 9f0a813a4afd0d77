// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Just enough rtnetlink to make pods: a process of ip(8) for each step costs
// more than the step where the processor is emulated.

var native = binary.NativeEndian

func attr(kind uint16, data []byte) []byte {
	out := native.AppendUint16(nil, uint16(4+len(data)))
	out = native.AppendUint16(out, kind)
	out = append(out, data...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

func attrString(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func attrUint32(kind uint16, v uint32) []byte { return attr(kind, native.AppendUint32(nil, v)) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// request sends one message and returns the kernel's answer to it.
func request(family int, kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags |= unix.NLM_F_REQUEST | unix.NLM_F_ACK
	if err := unix.Sendto(fd, message(kind, flags, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return err
	}
	return answer(buf[:n])
}

func message(kind, flags uint16, body []byte) []byte {
	out := native.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	out = native.AppendUint16(out, kind)
	out = native.AppendUint16(out, flags)
	out = append(out, make([]byte, 8)...)
	return append(out, body...)
}

func answer(buf []byte) error {
	if len(buf) < 20 || native.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("unexpected netlink answer % x", buf)
	}
	if errno := int32(native.Uint32(buf[16:])); errno != 0 {
		return unix.Errno(-errno)
	}
	return nil
}

func linkBody(index int, flags, change uint32, attrs ...[]byte) []byte {
	header := unix.IfInfomsg{Index: int32(index), Flags: flags, Change: change}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&header)), unix.SizeofIfInfomsg)
	return append(append([]byte(nil), raw...), join(attrs...)...)
}

func newLink(body []byte) error {
	return request(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

func addBridge(name string) error {
	info := attr(unix.IFLA_LINKINFO, attrString(unix.IFLA_INFO_KIND, "bridge"))
	return newLink(linkBody(0, 0, 0, attrString(unix.IFLA_IFNAME, name), info))
}

// addVeth makes a pair with one end here and the other one in a netns.
func addVeth(name, peer string, ns *os.File) error {
	const vethInfoPeer = 1
	other := linkBody(0, 0, 0, attrString(unix.IFLA_IFNAME, peer),
		attrUint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd())))
	info := attr(unix.IFLA_LINKINFO, join(attrString(unix.IFLA_INFO_KIND, "veth"),
		attr(unix.IFLA_INFO_DATA, attr(vethInfoPeer, other))))
	return newLink(linkBody(0, 0, 0, attrString(unix.IFLA_IFNAME, name), info))
}

// index works on the calling thread's netns, as everything here.
func index(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	return int(req.Uint32()), err
}

func linkUp(name string) error {
	i, err := index(name)
	if err != nil {
		return err
	}
	return request(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, 0, linkBody(i, unix.IFF_UP, unix.IFF_UP))
}

func setMaster(name, master string) error {
	i, err := index(name)
	if err != nil {
		return err
	}
	m, err := index(master)
	if err != nil {
		return err
	}
	body := linkBody(i, 0, 0, attrUint32(unix.IFLA_MASTER, uint32(m)))
	return request(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, 0, body)
}

// linkAddr gives a link its addresses and sets it up. The IPv6 one is valid at
// once: nobody has to wait for duplicate address detection.
func linkAddr(name string, v4, v6 netip.Addr) error {
	i, err := index(name)
	if err != nil {
		return err
	}
	if err := linkUp(name); err != nil {
		return err
	}
	if err := addAddr(i, v4, 20); err != nil {
		return err
	}
	return addAddr(i, v6, 64)
}

func addAddr(link int, addr netip.Addr, bits uint8) error {
	family := uint8(unix.AF_INET)
	if addr.Is6() {
		family = unix.AF_INET6
	}
	body := append([]byte{family, bits, unix.IFA_F_NODAD, 0}, native.AppendUint32(nil, uint32(link))...)
	body = append(body, attr(unix.IFA_LOCAL, addr.AsSlice())...)
	body = append(body, attr(unix.IFA_ADDRESS, addr.AsSlice())...)
	return request(unix.NETLINK_ROUTE, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

// listenUDP opens a socket in the netns; it can then be used from anywhere.
func (n *netns) listenUDP(addr netip.Addr, port uint16) (conn *net.UDPConn, err error) {
	err = n.do(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		return err
	})
	return conn, err
}
