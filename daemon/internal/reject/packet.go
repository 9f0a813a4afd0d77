// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"encoding/binary"
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40

	// hopLimit is that of answers.
	hopLimit = 64
)

// rejected is a packet that is to be answered.
type rejected struct {
	flow   inspect.Flow
	quoted []byte // the packet, as far as it was copied
	whole  int    // its length
	length int    // that of the transport header and what follows
	nonce  uint32
	// withheld are the bytes before the packet's that its receiver has not got.
	withheld uint32
}

// read reports whether the packet may be answered, as far as its IP header says.
func (r *rejected) read(p *inspect.Packet) bool {
	f, ok := p.Flow()
	if !ok || f.Fragment || !isHost(f.Source) || !isHost(f.Destination) || isRouted(p.Payload) {
		return false
	}
	r.flow, r.quoted, r.whole = f, p.Payload, max(p.Length, len(p.Payload))
	r.length = r.whole - (len(p.Payload) - len(f.Transport))
	return true
}

func (r *rejected) isIPv6() bool { return r.flow.Source.Is6() }

func (r *rejected) headerLen() int { return len(r.quoted) - len(r.flow.Transport) }

// isHost reports whether the address may be that of one host. The broadcast address
// of a network looks like one.
func isHost(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
		return false
	}
	const reserved = 240 // 240.0.0.0/4, with the broadcast address
	return !a.Is4() || a.As4()[0] < reserved
}

// isRouted reports whether a packet names the hosts on its way: one of them, and not
// the other end, is its source or its destination.
func isRouted(b []byte) bool {
	if b[0]>>4 == 4 {
		return hasSourceRoute(b[ipv4HeaderLen : int(b[0]&0x0f)*4])
	}
	return hasSegmentsLeft(b[6], b[ipv6HeaderLen:])
}

// hasSourceRoute looks for a source route among the options of IPv4 (RFC 791). Options
// that are malformed count as one.
func hasSourceRoute(o []byte) bool {
	const end, noOperation, loose, strict = 0, 1, 131, 137
	for len(o) > 0 && o[0] != end {
		if o[0] == noOperation {
			o = o[1:]
			continue
		}
		if o[0] == loose || o[0] == strict || len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return true
		}
		o = o[o[1]:]
	}
	return false
}

// hasSegmentsLeft looks for a routing header of IPv6 (RFC 8200) that the packet has not
// come to the end of. [inspect.Packet.Flow] has found all headers whole.
func hasSegmentsLeft(protocol byte, b []byte) bool {
	for len(b) >= 8 {
		length := int(b[1])*8 + 8
		switch protocol {
		case inspect.ProtoRouting:
			if b[3] != 0 {
				return true
			}
		case inspect.ProtoHopByHop, inspect.ProtoDstOpts:
		case inspect.ProtoAH:
			length = int(b[1])*4 + 8
		case inspect.ProtoFragment:
			length = 8
		default:
			return false
		}
		protocol, b = b[0], b[min(length, len(b)):]
	}
	return false
}

// isNoQuery reports whether the packet is a message that no error of ICMP may answer
// (RFC 1122, 4443): an error, a redirect, or one to neighbours.
func (r *rejected) isNoQuery() bool {
	isIPv6, b := r.isIPv6(), r.flow.Transport
	switch {
	case r.flow.Protocol == inspect.ProtoICMP && !isIPv6:
		return len(b) == 0 || isICMPError(b[0])
	case r.flow.Protocol == inspect.ProtoICMPv6 && isIPv6:
		return len(b) == 0 || b[0] < 128 || isNeighbourMessage(b[0])
	}
	return false
}

// isICMPError is true for types that are not assigned, too.
func isICMPError(kind byte) bool {
	const unreachable, quench, redirect, timeExceeded, parameter, last = 3, 4, 5, 11, 12, 18
	switch kind {
	case unreachable, quench, redirect, timeExceeded, parameter:
		return true
	}
	return kind > last
}

// isNeighbourMessage is about multicast listeners (RFC 2710, 3810) and neighbours
// (RFC 4861).
func isNeighbourMessage(kind byte) bool {
	const first, last, report = 130, 137, 143
	return kind >= first && kind <= last || kind == report
}

// appendIP appends the IP header of an answer, back to the sender of the packet or on
// to its receiver, and returns where the answer goes.
func (r *rejected) appendIP(b []byte, back bool, protocol byte, length int) ([]byte, netip.Addr) {
	from, to := r.flow.Source, r.flow.Destination
	if back {
		from, to = to, from
	}
	if r.isIPv6() {
		const version, flowLabel = 6 << 28, 0xfffff
		b = binary.BigEndian.AppendUint32(b, version|r.nonce&flowLabel)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = append(b, protocol, hopLimit)
		return append(append(b, from.AsSlice()...), to.AsSlice()...), to
	}
	const versionAndLength, internetControl, dontFragment = 4<<4 | ipv4HeaderLen/4, 0xc0, 0x40
	tos, flags := byte(0), byte(dontFragment)
	if protocol == inspect.ProtoICMP {
		tos, flags = internetControl, 0
	}
	b = append(b, versionAndLength, tos)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4HeaderLen+length))
	b = binary.BigEndian.AppendUint16(b, max(1, uint16(r.nonce))) // the kernel replaces 0
	b = append(b, flags, 0, hopLimit, protocol, 0, 0)
	return append(append(b, from.AsSlice()...), to.AsSlice()...), to
}
