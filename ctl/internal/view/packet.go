// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// packetTime is as exact as the clock of packets in captures.
const packetTime = "2006-01-02T15:04:05.000000Z07:00"

// PacketLine describes a packet and its verdict in one line, which is to be escaped.
func PacketLine(e *api.PacketEvent) string {
	name := "pod: " + e.Pod.String()
	if e.Pod.Name == "" {
		name = "container: " + ShortID(e.ContainerID) + "/" + e.Ifname
	}
	return fmt.Sprintf("packet: %d, origin mark: 0x%08x, set mark: 0x%08x, %s, %s, "+
		"%s -> %s, %s, length: %d, verdict: %s%s, time: %s",
		e.Packet, e.OriginMark, e.SetMark, name, e.Direction,
		endpoint(e.Source, e.SourcePort), endpoint(e.Destination, e.DestinationPort),
		e.Protocol, e.Length, e.Verdict, RuleOf(e),
		e.Time.UTC().Format(packetTime))
}

// RuleOf prints what decided the packet.
func RuleOf(e *api.PacketEvent) string {
	if e.Rule == "" {
		return ""
	}
	return ", rule: " + e.Rule
}

// endpoint prints an address, with its port where the protocol has ports.
func endpoint(addr netip.Addr, port uint16) string {
	switch {
	case !addr.IsValid():
		return "?"
	case port == 0:
		return addr.String()
	}
	return netip.AddrPortFrom(addr, port).String()
}
