// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo holds what differs between the two ICMPs.
type echo struct {
	network        string
	request, reply byte
}

const echoHeader = 8 // type, code, checksum, identifier, sequence number

// Ping sends count echo requests from the netns at once and returns how many
// of them were answered, at the latest after the timeout, for which it is [Patient].
func (ns *NetNS) Ping(tb testing.TB, dst netip.Addr, count int, timeout time.Duration) int {
	tb.Helper()
	received, err := ns.ping(dst, count, timeout)
	if err != nil {
		tb.Fatal(err)
	}
	return received
}

func (ns *NetNS) ping(dst netip.Addr, count int, timeout time.Duration) (int, error) {
	kind := echo{network: "ip4:icmp", request: 8, reply: 0}
	if dst.Is6() {
		kind = echo{network: "ip6:ipv6-icmp", request: 128, reply: 129}
	}
	to := &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()}
	// Connected, or it would get the replies to all pings, more of them
	// than its buffer holds.
	var conn *net.IPConn
	err := ns.Try(func() (err error) {
		conn, err = net.DialIP(kind.network, nil, to)
		return err
	})
	var call *os.SyscallError
	if errors.As(err, &call) && call.Syscall == "connect" { // no way there: a loss
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open ping socket: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(Patient(timeout))); err != nil {
		return 0, err
	}
	ident := uint16(rand.Uint32())
	for seq := range count {
		// A hook that drops local packets makes the send fail; that is a loss.
		_, _ = conn.Write(kind.message(ident, uint16(seq)))
	}
	return kind.collect(conn, ident, count), nil
}

// message is an echo request. The kernel fills in ICMPv6's checksum.
func (e echo) message(ident, seq uint16) []byte {
	m := make([]byte, echoHeader+56)
	m[0] = e.request
	binary.BigEndian.PutUint16(m[4:], ident)
	binary.BigEndian.PutUint16(m[6:], seq)
	if e.request == 8 {
		binary.BigEndian.PutUint16(m[2:], checksum(m))
	}
	return m
}

// collect counts the different replies until it has all or the deadline ends
// the wait.
func (e echo) collect(conn *net.IPConn, ident uint16, count int) int {
	seen := make(map[uint16]bool)
	buf := make([]byte, 1500)
	for len(seen) < count {
		n, _, err := conn.ReadFrom(buf)
		if errors.As(err, new(syscall.Errno)) { // of an ICMP error about a request
			continue
		}
		if err != nil {
			break
		}
		m := buf[:n]
		if n >= echoHeader && m[0] == e.reply && binary.BigEndian.Uint16(m[4:]) == ident {
			seen[binary.BigEndian.Uint16(m[6:])] = true
		}
	}
	return len(seen)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
