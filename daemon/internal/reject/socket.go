// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// open opens a socket in a netns whose packets have their IP header.
func open(ns *netns.NetNS, domain int) (int, error) {
	fd, err := ns.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return -1, err
	}
	if err := deafen(fd); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// deafen has a socket get no packets: it is there to send.
func deafen(fd int) error {
	none := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	filter := unix.SockFprog{Len: 1, Filter: &none}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER",
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter))
}

// isLocal fails where an address is no IPv4 address of the pod. For IPv6 the kernel asks
// that of each answer's source (IPV6_PKTINFO), but not for IPv4 where the header is
// ours. It does where the address is to name an interface. Which one that is matters to
// multicast alone, which is never sent.
func isLocal(fd int, pod netip.Addr) error {
	if !pod.Is4() {
		return nil
	}
	return os.NewSyscallError("setsockopt IP_MULTICAST_IF",
		unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, pod.As4()))
}

// address returns where an answer goes and how: by the route of the pod's address, which
// matters where a pod has several interfaces. A forwarded packet has no end in the pod,
// and its answers go where it came from and where it would have gone.
func address(
	p *inspect.Packet, a *Answer, pod netip.Addr, mark uint32,
) (to unix.Sockaddr, control []byte) {
	device := uint32(0)
	switch {
	case !pod.IsValid() && a.Back:
		device = p.InDev
	case !pod.IsValid():
		device = p.OutDev
	case a.Destination.IsLinkLocalUnicast() && a.Destination.Is6():
		device = max(p.InDev, p.OutDev) // there is one
	}
	if mark != 0 && !a.Back {
		control = markMessage(mark)
	}
	if a.Destination.Is4() {
		info := unix.Inet4Pktinfo{Ifindex: int32(device)}
		if pod.IsValid() {
			info.Spec_dst = pod.As4()
		}
		return &unix.SockaddrInet4{Addr: a.Destination.As4()},
			append(control, unix.PktInfo4(&info)...)
	}
	info := unix.Inet6Pktinfo{Ifindex: device}
	if pod.IsValid() {
		info.Addr = pod.As16()
	}
	return &unix.SockaddrInet6{Addr: a.Destination.As16(), ZoneId: device},
		append(control, unix.PktInfo6(&info)...)
}

// podAddress returns the address of the pod's end, none where it has none.
func podAddress(p *inspect.Packet, a *Answer) netip.Addr {
	if p.Direction != inspect.In && p.Direction != inspect.Out {
		return netip.Addr{}
	}
	if a.Back == (p.Direction == inspect.Out) {
		return a.Destination
	}
	return source(a.Packet)
}

// source returns the source address of an answer.
func source(packet []byte) netip.Addr {
	if packet[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(packet[12:16]))
	}
	return netip.AddrFrom16([16]byte(packet[8:24]))
}

// markMessage is the control message that gives a packet its mark.
func markMessage(mark uint32) []byte {
	const size = 4
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SO_MARK
	h.SetLen(unix.CmsgLen(size))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], mark)
	return b
}
