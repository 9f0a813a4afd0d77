// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A raw socket sends packets whose headers the kernel did not write.
type raw struct {
	fd   int
	from netip.Addr
}

// openRaw opens a socket that sends from that address of the netns.
func (n *netns) openRaw(t *testing.T, from netip.Addr) *raw {
	t.Helper()
	r := &raw{from: from}
	n.must(t, func() (err error) {
		family := unix.AF_INET
		if from.Is6() {
			family = unix.AF_INET6
		}
		r.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return os.NewSyscallError("socket", err)
	})
	t.Cleanup(func() {
		if err := unix.Close(r.fd); err != nil {
			t.Error(err)
		}
	})
	return r
}

// send sends a packet whose header is followed by next in body.
func (r *raw) send(t *testing.T, to netip.Addr, next byte, body []byte) {
	t.Helper()
	if err := r.trySend(to, r.packet(to, next, 0, body)); err != nil {
		t.Fatalf("send protocol %d to %s: %v", next, to, err)
	}
}

func (r *raw) trySend(to netip.Addr, packet []byte) error {
	var address unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(to.AsSlice())}
	if to.Is6() {
		address = &unix.SockaddrInet6{Addr: to.As16()}
	}
	return unix.Sendto(r.fd, packet, 0, address)
}

// packet puts a header before body. The kernel fills in IPv4's length and
// checksum; flags are IPv4's and of a fragment.
func (r *raw) packet(to netip.Addr, next byte, flags uint16, body []byte) []byte {
	if to.Is6() {
		out := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body)))
		out = append(append(out, next, 64), r.from.AsSlice()...)
		return append(append(out, to.AsSlice()...), body...)
	}
	out := binary.BigEndian.AppendUint16([]byte{0x45, 0, 0, 0, 0, 1}, flags)
	out = append(append(out, 64, next, 0, 0), r.from.AsSlice()...)
	return append(append(out, to.AsSlice()...), body...)
}

// ports begin the headers of what has flows; zeros are the rest of them.
func ports(from, to uint16) []byte {
	out := binary.BigEndian.AppendUint16(nil, from)
	return append(binary.BigEndian.AppendUint16(out, to), make([]byte, 20)...)
}
