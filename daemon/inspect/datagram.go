// SPDX-License-Identifier: Apache-2.0

package inspect

import "encoding/binary"

// datagram is what the checksums of a whole IP packet are about.
type datagram struct {
	version   int
	protocol  uint8
	source    []byte
	address   [16]byte // where the packet goes in the end
	fragment  bool     // the transport is not all there
	transport []byte
}

// parse returns false where b is no whole IP packet.
func (d *datagram) parse(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	d.version = int(b[0] >> 4)
	switch d.version {
	case 4:
		return d.parseIPv4(b)
	case 6:
		return d.parseIPv6(b)
	}
	return false
}

// final is the address of the pseudo header: not that of the next hop, where the
// packet has a route.
func (d *datagram) final() []byte {
	if d.version == 4 {
		return d.address[:4]
	}
	return d.address[:]
}

func (d *datagram) parseIPv4(b []byte) bool {
	if len(b) < ipv4HeaderLen || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return false
	}
	header := int(b[0]&0x0f) * 4
	if header < ipv4HeaderLen || len(b) < header {
		return false
	}
	const moreOrOffset = 0x3fff
	d.fragment = binary.BigEndian.Uint16(b[6:])&moreOrOffset != 0
	d.protocol, d.source, d.transport = b[9], b[12:16], b[header:]
	copy(d.address[:], b[16:20])
	return d.options(b[ipv4HeaderLen:header])
}

// IPv4's options (RFC 791).
const (
	optionEnd               = 0
	optionNoOperation       = 1
	optionLooseSourceRoute  = 131
	optionStrictSourceRoute = 137
)

// options looks for a source route that is not at its end.
func (d *datagram) options(o []byte) bool {
	for len(o) > 0 && o[0] != optionEnd {
		if o[0] == optionNoOperation {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		option := o[:o[1]]
		if o[0] == optionLooseSourceRoute || o[0] == optionStrictSourceRoute {
			if !d.sourceRoute(option) {
				return false
			}
		}
		o = o[len(option):]
	}
	return true
}

func (d *datagram) sourceRoute(option []byte) bool {
	const head = 3 // kind, length, and a pointer that counts from 1
	if len(option) < head || (len(option)-head)%4 != 0 {
		return false
	}
	next := int(option[2])
	if next > len(option) {
		return true
	}
	if next <= head {
		return false
	}
	copy(d.address[:], option[len(option)-4:])
	return true
}

func (d *datagram) parseIPv6(b []byte) bool {
	if len(b) < ipv6HeaderLen || ipv6HeaderLen+int(binary.BigEndian.Uint16(b[4:])) != len(b) {
		return false
	}
	d.source = b[8:24]
	copy(d.address[:], b[24:40])
	f := Flow{Protocol: b[6], Transport: b[ipv6HeaderLen:]}
	for range maxExtensions {
		length, isExtension, ok := f.extension()
		if !ok {
			return false
		}
		if isExtension && !d.extension(f.Protocol, f.Transport[:length]) {
			return false
		}
		if !isExtension || d.fragment {
			d.protocol, d.transport = f.Protocol, f.Transport
			return true
		}
		f.Protocol, f.Transport = f.Transport[0], f.Transport[length:]
	}
	return false
}

// extension notes what an IPv6 extension header says of the transport.
func (d *datagram) extension(kind uint8, header []byte) bool {
	switch kind {
	case ProtoFragment:
		const offsetOrMore = 0xfff9
		d.fragment = binary.BigEndian.Uint16(header[2:])&offsetOrMore != 0
	case ProtoRouting:
		return d.route(header)
	}
	return true
}

// The types of IPv6's routing headers.
const (
	routeSource  = 0 // RFC 2460, deprecated
	routeMobile  = 2 // RFC 6275
	routeRPL     = 3 // RFC 6554
	routeSegment = 4 // RFC 8754
)

// route follows a routing header to its end. What a type that is not known says
// cannot be told.
func (d *datagram) route(header []byte) bool {
	const head, address = 8, 16
	if header[3] == 0 { // no segments left
		return true
	}
	if header[2] == routeRPL {
		return d.routeRPL(header)
	}
	if len(header) < head+address {
		return false
	}
	switch header[2] {
	case routeSource, routeMobile:
		copy(d.address[:], header[len(header)-address:])
		return (len(header)-head)%address == 0
	case routeSegment: // the last one comes first
		copy(d.address[:], header[head:])
		return true
	}
	return false
}

// routeRPL takes the last address, of which the header leaves out what it has in
// common with the packet's destination.
func (d *datagram) routeRPL(header []byte) bool {
	const head = 8
	common, pad := int(header[4]&0x0f), int(header[5]>>4)
	end := len(header) - pad
	start := end - (len(d.address) - common)
	if start < head {
		return false
	}
	copy(d.address[common:], header[start:end])
	return true
}
