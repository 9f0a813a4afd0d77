// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Strangers are the clients of connections that nobody goes on with. A pod needs a route
// to them, or its kernel may drop what they send.
const Strangers = "198.18.0.0/15"

const (
	// firstStranger is the first two bytes of their addresses.
	firstStranger = 198<<8 | 18
	// portsEach is how many ports a client has.
	portsEach = 50000
	firstPort = 10000
	synLength = 40
)

// Open sends SYN after SYN from the netns that it is called in, each of another
// connection, so many a second.
func Open(to netip.AddrPort, count, rate int) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(socket)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for n := 0; n < count; <-ticker.C {
		due := int(time.Since(began).Seconds() * float64(rate))
		for ; n < min(due, count); n++ {
			b := syn(to, n)
			err := unix.Sendto(socket, b[:], 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
			if err != nil {
				return fmt.Errorf("send SYN %d: %w", n, os.NewSyscallError("sendto", err))
			}
		}
	}
	return nil
}

// syn returns the first packet of the n-th connection. The kernel fills in what else
// the header of IPv4 has.
func syn(to netip.AddrPort, n int) (b [synLength]byte) {
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], synLength)
	binary.BigEndian.PutUint32(b[12:], firstStranger<<16|uint32(1+n/portsEach))
	copy(b[16:], to.Addr().AsSlice())
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, uint16(firstPort+n%portsEach))
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], uint32(n))
	tcp[12], tcp[13] = 5<<4, 2
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	binary.BigEndian.PutUint16(tcp[16:], checksum(b[12:20], tcp))
	return b
}

// checksum is that of a segment between two addresses.
func checksum(addresses, segment []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP + len(segment))
	for _, part := range [][]byte{addresses, segment} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
