// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
)

// AppendCommunityID adds the Community ID of an event's flow, version 1 with seed 0. Other
// programs that see the flow compute the same one.
func AppendCommunityID(b []byte, e *Event) []byte {
	source, destination := e.Client.Addr().Unmap(), e.Server.Addr().Unmap()
	ports, oneWay := hasPorts(e.Protocol), false
	sourcePort, destinationPort := e.Client.Port(), e.Server.Port()
	if e.Protocol == protoICMP || e.Protocol == protoICMPv6 {
		ports = true
		sourcePort = uint16(e.ICMPType)
		destinationPort, oneWay = answer(e.Protocol, e.ICMPType, e.ICMPCode)
	}
	if !ports {
		sourcePort, destinationPort = 0, 0
	}
	c := source.Compare(destination)
	if !oneWay && (c > 0 || c == 0 && sourcePort > destinationPort) {
		source, destination = destination, source
		sourcePort, destinationPort = destinationPort, sourcePort
	}
	var room [2 + 2*16 + 2 + 2*2]byte
	buf := appendAddress(append(room[:0], 0, 0), source)
	buf = append(appendAddress(buf, destination), e.Protocol, 0)
	if ports {
		buf = binary.BigEndian.AppendUint16(buf, sourcePort)
		buf = binary.BigEndian.AppendUint16(buf, destinationPort)
	}
	sum := sha1.Sum(buf)
	return base64.StdEncoding.AppendEncode(append(b, "1:"...), sum[:])
}

func appendAddress(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// answer returns the type of ICMP that answers one, or is answered by it. Where there is
// none, it returns the code, and that the flow goes one way.
func answer(protocol, kind, code uint8) (other uint16, oneWay bool) {
	pairs := [...][2]uint8{{8, 0}, {13, 14}, {15, 16}, {17, 18}, {10, 9}}
	pairs6 := [...][2]uint8{{128, 129}, {130, 131}, {133, 134}, {135, 136}, {139, 140}, {144, 145}}
	known := pairs[:]
	if protocol == protoICMPv6 {
		known = pairs6[:]
	}
	for _, pair := range known {
		switch kind {
		case pair[0]:
			return uint16(pair[1]), false
		case pair[1]:
			return uint16(pair[0]), false
		}
	}
	return uint16(code), true
}
