// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"encoding/binary"
	"fmt"
)

// The link types, as the registry of pcap numbers them.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRawBSD   = 12
	linkRawOpen  = 14
	linkRaw      = 101
	linkLoop     = 108
	linkCooked   = 113 // Linux's "any" interface
	linkIPv4     = 228
	linkIPv6     = 229
	linkCooked2  = 276
)

// Protocols of Ethernet. The last three are tags in front of another one.
const (
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	etherVLAN   = 0x8100
	etherQinQ   = 0x88a8
	etherOldTag = 0x9100
)

// network takes the link layer off a frame. It returns what was captured of the IP packet,
// and the packet's length; no bytes where the frame is not IP.
func network(linkType uint16, b []byte, length int) (ip []byte, ipLength int, err error) {
	header, protocol := 0, 0
	switch linkType {
	case linkEthernet:
		header, protocol = 14, 12
	case linkCooked:
		header, protocol = 16, 14
	case linkCooked2:
		header, protocol = 20, 0
	case linkNull, linkLoop:
		header = 4
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
	default:
		return nil, 0, fmt.Errorf("link type %d is not supported", linkType)
	}
	if len(b) < header {
		return nil, 0, nil
	}
	skipped := header
	if header > 4 {
		var ok bool
		if skipped, ok = untagged(b, protocol, header); !ok {
			return nil, 0, nil
		}
	}
	ip, ipLength = trimmed(b[skipped:], length-skipped)
	return ip, ipLength, nil
}

// untagged returns where the IP header begins behind tags. The first protocol is at its
// place in the header; the next ones end the tags.
func untagged(b []byte, protocol, header int) (at int, ok bool) {
	kind := binary.BigEndian.Uint16(b[protocol:])
	for kind == etherVLAN || kind == etherQinQ || kind == etherOldTag {
		if len(b) < header+4 {
			return 0, false
		}
		kind = binary.BigEndian.Uint16(b[header+2:])
		header += 4
	}
	return header, kind == etherIPv4 || kind == etherIPv6
}

// trimmed cuts off what a link layer has put behind a packet: padding and checksums. It
// returns nothing where there is no IP header.
func trimmed(b []byte, length int) (ip []byte, ipLength int) {
	if len(b) == 0 {
		return nil, 0
	}
	own := 0 // 0 in a packet whose length its header cannot say
	switch version := b[0] >> 4; {
	case version == 4 && len(b) >= 4:
		own = int(binary.BigEndian.Uint16(b[2:]))
	case version == 6 && len(b) >= 6:
		if own = int(binary.BigEndian.Uint16(b[4:])); own > 0 {
			own += 40
		}
	case version != 4 && version != 6:
		return nil, 0
	}
	if own >= 20 && own < length {
		length = own
	}
	return b[:min(len(b), length)], length
}
