// SPDX-License-Identifier: Apache-2.0

package inspect

import "encoding/binary"

// Offsets of the checksum fields in their headers, and of the length fields of
// UDP and UDP-Lite.
const (
	ipv4Checksum = 10
	tcpChecksum  = 16
	udpChecksum  = 6
	udpLength    = 4
	icmpChecksum = 2
)

// The shortest headers.
const (
	tcpHeaderLen  = 20
	udpHeaderLen  = 8
	icmpHeaderLen = 4 // what all messages have
)

// FixChecksums writes the checksums of IPv4, TCP, UDP, UDP-Lite, ICMP and ICMPv6
// into a whole packet. Right ones stay as they are, as does a UDP checksum of
// zero over IPv4, which means that there is none. Fragments have their IPv4
// header's checksum written and no other; other protocols are left alone.
//
// Lengths are the caller's job. It returns false, having changed nothing, where
// the length in the IP header is not that of b, the transport's length is more
// than there is, or headers or options are malformed or of a kind that does not
// say where the packet goes in the end.
func FixChecksums(b []byte) bool {
	var d datagram
	if !d.parse(b) {
		return false
	}
	c, ok := d.checksum()
	if !ok {
		return false
	}
	if d.version == 4 {
		header := b[:len(b)-len(d.transport)]
		write(header, ipv4Checksum, 0)
	}
	if c.covered != nil {
		c.fix(&d)
	}
	return true
}

// VerifyChecksum looks at the checksum of TCP, UDP, UDP-Lite, ICMP or ICMPv6 in a
// whole packet, for packets of which the kernel says [ChecksumUnverified]. known is
// false where there is nothing to compare: b is a fragment or not whole, its headers
// are such that [FixChecksums] would refuse them, its protocol is another, or it has
// no UDP checksum (zero over IPv4). What it says of a merged packet is of no use.
// The kernel has verified the checksum of an IPv4 header before.
func VerifyChecksum(b []byte) (right, known bool) {
	var d datagram
	if !d.parse(b) {
		return false, false
	}
	c, ok := d.checksum()
	if !ok || c.covered == nil {
		return false, false
	}
	return c.right(&d), true
}

// checksum is one of a transport protocol.
type checksum struct {
	covered []byte // nil: there is none to write
	at      int
	pseudo  bool // covers the pseudo header, too
	length  int  // in the pseudo header
	// zeroIsNone: the sum of zero is written as its equivalent.
	zeroIsNone bool
}

// checksum returns what is to be written, and false where the transport header
// is malformed.
func (d *datagram) checksum() (checksum, bool) {
	if d.fragment {
		return checksum{}, true
	}
	b := d.transport
	whole := checksum{covered: b, length: len(b), pseudo: true}
	switch {
	case d.protocol == ProtoTCP:
		whole.at = tcpChecksum
		return whole, len(b) >= tcpHeaderLen && int(b[12]>>4)*4 >= tcpHeaderLen &&
			int(b[12]>>4)*4 <= len(b)
	case d.protocol == ProtoUDP:
		return d.udp()
	case d.protocol == ProtoUDPLite:
		return d.udpLite()
	case d.protocol == ProtoICMP && d.version == 4:
		whole.at, whole.pseudo = icmpChecksum, false
		return whole, len(b) >= icmpHeaderLen
	case d.protocol == ProtoICMPv6 && d.version == 6:
		whole.at = icmpChecksum
		return whole, len(b) >= icmpHeaderLen
	}
	return checksum{}, true
}

// udp is about as much as UDP's own length says: bytes may follow.
func (d *datagram) udp() (checksum, bool) {
	b := d.transport
	if len(b) < udpHeaderLen {
		return checksum{}, false
	}
	length := int(binary.BigEndian.Uint16(b[udpLength:]))
	if length < udpHeaderLen || length > len(b) {
		return checksum{}, false
	}
	if d.version == 4 && binary.BigEndian.Uint16(b[udpChecksum:]) == 0 {
		return checksum{}, true
	}
	return checksum{
		covered: b[:length], at: udpChecksum, pseudo: true, length: length, zeroIsNone: true,
	}, true
}

// udpLite has its checksum's coverage where UDP has its length (RFC 3828); 0 is
// everything.
func (d *datagram) udpLite() (checksum, bool) {
	b := d.transport
	if len(b) < udpHeaderLen {
		return checksum{}, false
	}
	coverage := int(binary.BigEndian.Uint16(b[udpLength:]))
	if coverage == 0 {
		coverage = len(b)
	}
	if coverage < udpHeaderLen || coverage > len(b) {
		return checksum{}, false
	}
	return checksum{
		covered: b[:coverage], at: udpChecksum, pseudo: true, length: len(b), zeroIsNone: true,
	}, true
}

// pseudoHeader is the sum of the pseudo header (RFC 768, 8200), 0 without one.
func (c *checksum) pseudoHeader(d *datagram) uint64 {
	if !c.pseudo {
		return 0
	}
	return sum(sum(uint64(d.protocol)+uint64(c.length), d.source), d.final())
}

// right reports whether the checksum that is there is the one to write.
func (c *checksum) right(d *datagram) bool {
	none := c.zeroIsNone && binary.BigEndian.Uint16(c.covered[c.at:]) == 0
	return !none && fold(sum(c.pseudoHeader(d), c.covered)) == 0
}

func (c *checksum) fix(d *datagram) {
	write(c.covered, c.at, c.pseudoHeader(d))
	if c.zeroIsNone && binary.BigEndian.Uint16(c.covered[c.at:]) == 0 {
		binary.BigEndian.PutUint16(c.covered[c.at:], 0xffff)
	}
}

// write puts the checksum of b, and of what s is the sum of, into b. Of the two
// forms of zero it leaves the one that is there.
func write(b []byte, at int, s uint64) {
	was := binary.BigEndian.Uint16(b[at:])
	binary.BigEndian.PutUint16(b[at:], 0)
	is := fold(sum(s, b))
	if is == 0 && was == 0xffff {
		is = was
	}
	binary.BigEndian.PutUint16(b[at:], is)
}

// sum adds b to an unfolded one's complement sum. Words of 32 bits add up to the
// same as their halves (RFC 1071); a packet of 64 KiB is 2^14 of them, whose sum
// 64 bits hold.
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 16 {
		s += uint64(binary.BigEndian.Uint32(b)) + uint64(binary.BigEndian.Uint32(b[4:])) +
			uint64(binary.BigEndian.Uint32(b[8:])) + uint64(binary.BigEndian.Uint32(b[12:]))
		b = b[16:]
	}
	for len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
