// SPDX-License-Identifier: Apache-2.0

package quic

// kind is what a packet with a long header is.
type kind uint8

// The first four are in the order that version 1 numbers them.
const (
	initial kind = iota
	zeroRTT
	handshake
	retry
	foreign // of another version, or Version Negotiation
)

// packet is a packet with a long header. Its slices point into the datagram.
type packet struct {
	kind       kind
	version    uint32
	dcid, scid []byte
	bytes      []byte
	numberAt   int // where the packet number starts, in bytes
}

// cut returns the first packet of a datagram and what follows it. It returns
// false if there is no packet with a whole long header.
func cut(datagram []byte) (p packet, rest []byte, ok bool) {
	if len(datagram) == 0 || datagram[0]&longForm == 0 {
		return packet{}, nil, false
	}
	r := reader{b: datagram, at: 1}
	p.version = r.uint32()
	p.kind = kindOf(datagram[0], p.version)
	if p.kind == foreign {
		return p, nil, !r.bad
	}
	p.dcid, p.scid = r.connectionID(), r.connectionID()
	if p.kind == retry {
		return p, nil, !r.bad
	}
	if p.kind == initial {
		r.take(r.varint()) // the token
	}
	length := r.varint()
	p.numberAt = r.at
	r.take(length)
	if r.bad {
		return packet{}, nil, false
	}
	p.bytes = datagram[:r.at]
	return p, datagram[r.at:], true
}

// kindOf reads the type bits, which version 2 numbers in another order.
func kindOf(first byte, version uint32) kind {
	bits := first >> 4 & 3
	switch version {
	case version1:
		return kind(bits)
	case version2:
		return kind((bits - 1) & 3)
	}
	return foreign
}
