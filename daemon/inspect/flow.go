// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// IP protocol numbers that the package knows by name (IANA protocol numbers).
const (
	ProtoHopByHop  = 0
	ProtoICMP      = 1
	ProtoTCP       = 6
	ProtoUDP       = 17
	ProtoRouting   = 43
	ProtoFragment  = 44
	ProtoAH        = 51
	ProtoICMPv6    = 58
	ProtoNone      = 59
	ProtoDstOpts   = 60
	ProtoSCTP      = 132
	ProtoUDPLite   = 136
	ipv4HeaderLen  = 20
	ipv6HeaderLen  = 40
	maxExtensions  = 8 // a sane packet has fewer; the rest is not looked at
	fragmentHdrLen = 8
)

// Flow is what identifies a packet's conversation.
type Flow struct {
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16 // 0 where the protocol has none
	// Fragment is true for a fragment other than the first: it has no ports.
	Fragment bool
	// Transport is the transport header and what follows, as far as copied.
	Transport []byte
}

// Flow reads the packet's IP and transport headers. It returns false if they
// are malformed or not wholly in the payload. Ports are those of TCP, UDP,
// UDP-Lite and SCTP.
func (p *Packet) Flow() (Flow, bool) {
	if len(p.Payload) == 0 {
		return Flow{}, false
	}
	var f Flow
	var ok bool
	switch p.Payload[0] >> 4 {
	case 4:
		f, ok = flowIPv4(p.Payload)
	case 6:
		f, ok = flowIPv6(p.Payload)
	}
	if !ok {
		return Flow{}, false
	}
	if !f.hasPorts() || f.Fragment {
		return f, true
	}
	if len(f.Transport) < 4 {
		return Flow{}, false
	}
	f.SourcePort = binary.BigEndian.Uint16(f.Transport)
	f.DestinationPort = binary.BigEndian.Uint16(f.Transport[2:])
	return f, true
}

func (f *Flow) hasPorts() bool {
	switch f.Protocol {
	case ProtoTCP, ProtoUDP, ProtoUDPLite, ProtoSCTP:
		return true
	}
	return false
}

func flowIPv4(b []byte) (Flow, bool) {
	if len(b) < ipv4HeaderLen {
		return Flow{}, false
	}
	header := int(b[0]&0x0f) * 4
	if header < ipv4HeaderLen || len(b) < header {
		return Flow{}, false
	}
	return Flow{
		Source:      netip.AddrFrom4([4]byte(b[12:16])),
		Destination: netip.AddrFrom4([4]byte(b[16:20])),
		Protocol:    b[9],
		Fragment:    binary.BigEndian.Uint16(b[6:])&0x1fff != 0,
		Transport:   b[header:],
	}, true
}

func flowIPv6(b []byte) (Flow, bool) {
	if len(b) < ipv6HeaderLen {
		return Flow{}, false
	}
	f := Flow{
		Source:      netip.AddrFrom16([16]byte(b[8:24])),
		Destination: netip.AddrFrom16([16]byte(b[24:40])),
		Protocol:    b[6],
		Transport:   b[ipv6HeaderLen:],
	}
	for range maxExtensions {
		length, isExtension, ok := f.extension()
		if !ok {
			return Flow{}, false
		}
		if !isExtension {
			return f, true
		}
		f.Protocol, f.Transport = f.Transport[0], f.Transport[length:]
	}
	return Flow{}, false
}

// extension looks at the header that f.Transport starts with and returns its
// length if it is an IPv6 extension header that fits.
func (f *Flow) extension() (length int, isExtension, ok bool) {
	if f.Fragment { // what follows is the middle of something
		return 0, false, true
	}
	b := f.Transport
	switch f.Protocol {
	case ProtoHopByHop, ProtoRouting, ProtoDstOpts:
		if len(b) < 2 {
			return 0, false, false
		}
		length = int(b[1])*8 + 8
	case ProtoAH:
		if len(b) < 2 {
			return 0, false, false
		}
		length = int(b[1])*4 + 8
	case ProtoFragment:
		if len(b) < fragmentHdrLen {
			return 0, false, false
		}
		length = fragmentHdrLen
		f.Fragment = binary.BigEndian.Uint16(b[2:])>>3 != 0
	default:
		return 0, false, true
	}
	return length, true, len(b) >= length
}

// ProtocolName returns the name of an IP protocol, or its number in decimal.
func ProtocolName(proto uint8) string {
	switch proto {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoICMPv6:
		return "icmpv6"
	case ProtoSCTP:
		return "sctp"
	case ProtoUDPLite:
		return "udplite"
	}
	return strconv.Itoa(int(proto))
}

// ProtocolNumber is the reverse of [ProtocolName].
func ProtocolNumber(name string) (uint8, bool) {
	for _, proto := range []uint8{
		ProtoICMP, ProtoTCP, ProtoUDP, ProtoICMPv6, ProtoSCTP, ProtoUDPLite,
	} {
		if ProtocolName(proto) == name {
			return proto, true
		}
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return uint8(n), err == nil
}
