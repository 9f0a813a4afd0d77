// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Flags of a TCP header.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
)

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// ip puts a header of IP before what it carries, and makes the checksums right.
func ip(source, destination netip.Addr, protocol uint8, carried []byte) []byte {
	var b []byte
	if source.Is4() {
		b = make([]byte, 20, 20+len(carried))
		b[0], b[8], b[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(carried)))
		copy(b[12:], source.AsSlice())
		copy(b[16:], destination.AsSlice())
	} else {
		b = make([]byte, 40, 40+len(carried))
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(carried)))
		copy(b[8:], source.AsSlice())
		copy(b[24:], destination.AsSlice())
	}
	b = append(b, carried...)
	inspect.FixChecksums(b)
	return b
}

// segment is one of TCP.
type segment struct {
	from, to netip.AddrPort
	flags    uint8
	seq, ack uint32
	options  []byte // a multiple of 4 bytes
	payload  []byte
}

func (s segment) bytes() []byte {
	h := make([]byte, 20, 20+len(s.options)+len(s.payload))
	binary.BigEndian.PutUint16(h, s.from.Port())
	binary.BigEndian.PutUint16(h[2:], s.to.Port())
	binary.BigEndian.PutUint32(h[4:], s.seq)
	binary.BigEndian.PutUint32(h[8:], s.ack)
	h[12], h[13] = byte((20+len(s.options))/4)<<4, s.flags
	binary.BigEndian.PutUint16(h[14:], 0xffff)
	return append(append(h, s.options...), s.payload...)
}

func (s segment) packet() []byte {
	return ip(s.from.Addr(), s.to.Addr(), inspect.ProtoTCP, s.bytes())
}

// udp is a datagram with its header.
func udp(from, to netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return append(h, payload...)
}

func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	return ip(from.Addr(), to.Addr(), inspect.ProtoUDP, udp(from, to, payload))
}

// fragments cuts what a packet of IP carries into pieces of so many bytes, a multiple of 8.
func fragments(packet []byte, size int) [][]byte {
	if packet[0]>>4 == 6 {
		return fragments6(packet, size)
	}
	var list [][]byte
	for at := 20; at < len(packet); at += size {
		piece := packet[at:min(at+size, len(packet))]
		b := slices.Concat(packet[:20], piece)
		where := uint16(at-20) / 8
		if at+size < len(packet) {
			where |= 0x2000
		}
		binary.BigEndian.PutUint16(b[4:], 77)
		binary.BigEndian.PutUint16(b[6:], where)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		list = append(list, sumHeader(b))
	}
	return list
}

func fragments6(packet []byte, size int) [][]byte {
	var list [][]byte
	for at := 40; at < len(packet); at += size {
		piece := packet[at:min(at+size, len(packet))]
		where := uint16(at - 40)
		if at+size < len(packet) {
			where |= 1
		}
		h := []byte{packet[6], 0, 0, 0, 0, 0, 0, 77}
		binary.BigEndian.PutUint16(h[2:], where)
		b := slices.Concat(packet[:40], h, piece)
		b[6] = inspect.ProtoFragment
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		list = append(list, b)
	}
	return list
}

// sumHeader makes the checksum of a header of IPv4 right.
func sumHeader(b []byte) []byte {
	b[10], b[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return b
}
