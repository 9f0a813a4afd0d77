// SPDX-License-Identifier: Apache-2.0

package inspect

import "encoding/binary"

// Offsets of the checksum fields in their headers.
const (
	ipv4Checksum = 10
	tcpChecksum  = 16
	udpChecksum  = 6
	icmpChecksum = 2
)

// FixChecksums writes the checksums of IPv4, TCP, UDP, ICMP and ICMPv6 into a
// whole packet. It returns false, having changed nothing but an IPv4 header's
// checksum, if the packet is no whole IP packet or a fragment. Other protocols
// are left alone.
func FixChecksums(b []byte) bool {
	p := Packet{Payload: b}
	f, ok := p.Flow()
	if !ok || f.Fragment {
		return false
	}
	v4 := f.Source.Is4()
	if v4 {
		fixIPv4Header(b[:len(b)-len(f.Transport)])
	}
	switch f.Protocol {
	case ProtoTCP:
		return fixTransport(&f, tcpChecksum, true, false)
	case ProtoUDP:
		return fixTransport(&f, udpChecksum, true, true)
	case ProtoICMP:
		return fixTransport(&f, icmpChecksum, false, false)
	case ProtoICMPv6:
		return fixTransport(&f, icmpChecksum, true, false)
	}
	return true
}

func fixIPv4Header(header []byte) {
	binary.BigEndian.PutUint16(header[ipv4Checksum:], 0)
	binary.BigEndian.PutUint16(header[ipv4Checksum:], fold(sum(0, header)))
}

// fixTransport writes the checksum at offset at of the transport header, over
// the pseudo header too where the protocol has it so. Where zero means that
// there is none, its equivalent is written.
func fixTransport(f *Flow, at int, pseudo, zeroIsNone bool) bool {
	b := f.Transport
	if len(b) < at+2 {
		return false
	}
	binary.BigEndian.PutUint16(b[at:], 0)
	var s uint32
	if pseudo {
		s = pseudoHeader(f)
	}
	c := fold(sum(s, b))
	if c == 0 && zeroIsNone {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
	return true
}

// pseudoHeader is the sum over addresses, length and protocol (RFC 768, 8200).
func pseudoHeader(f *Flow) uint32 {
	s := uint32(f.Protocol) + uint32(len(f.Transport))
	if f.Source.Is4() {
		src, dst := f.Source.As4(), f.Destination.As4()
		return sum(sum(s, src[:]), dst[:])
	}
	src, dst := f.Source.As16(), f.Destination.As16()
	return sum(sum(s, src[:]), dst[:])
}

// sum adds b to an unfolded one's complement sum. A packet of 64 KiB is 2^15
// words of 16 bits: 32 bits hold their sum.
func sum(s uint32, b []byte) uint32 {
	for len(b) >= 2 {
		s += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
