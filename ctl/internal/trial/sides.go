// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"net/netip"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/internal/pcap"
)

// sides tells which packets a pod sends, and which it receives.
type sides struct {
	addresses []netip.Addr
	given     bool // and are not guessed
}

// direction returns the direction of a packet, and false if it is not the pod's.
func (s *sides) direction(p *pcap.Packet) (inspect.Direction, bool) {
	if _, _, ours := p.Interface.Pod(); ours && !s.given {
		return captured(p.Direction)
	}
	packet := inspect.Packet{Payload: p.IP, Length: p.Length}
	f, ok := packet.Flow()
	if !ok {
		return inspect.Forward, true // whosever it is, it cannot be judged
	}
	if !s.given {
		s.guess(&f)
	}
	switch {
	case slices.Contains(s.addresses, f.Source.Unmap()):
		return inspect.Out, true
	case slices.Contains(s.addresses, f.Destination.Unmap()):
		return inspect.In, true
	}
	return 0, false
}

// captured is what nsqueuectl has captured: its directions are those of the pod.
func captured(d pcap.Direction) (inspect.Direction, bool) {
	switch d {
	case pcap.Inbound:
		return inspect.In, true
	case pcap.Outbound:
		return inspect.Out, true
	}
	return inspect.Forward, true
}

// guess takes the client of the first flow for the pod, for each family of addresses.
func (s *sides) guess(f *inspect.Flow) {
	client := clientOf(f)
	if client.IsUnspecified() || client.IsMulticast() || f.Destination.IsMulticast() {
		return
	}
	of := func(known netip.Addr) bool { return known.Is4() == client.Is4() }
	if slices.ContainsFunc(s.addresses, of) || isNeighbour(f) {
		return
	}
	s.addresses = append(s.addresses, client)
}

// clientOf returns who opened the flow of a packet, as far as the packet tells.
func clientOf(f *inspect.Flow) netip.Addr {
	const syn, ack, flags = 0x02, 0x10, 13
	source, destination := f.Source.Unmap(), f.Destination.Unmap()
	switch {
	case f.Protocol == inspect.ProtoTCP && len(f.Transport) > flags &&
		f.Transport[flags]&syn != 0:
		if f.Transport[flags]&ack != 0 {
			return destination
		}
		return source
	case f.SourcePort < f.DestinationPort && f.SourcePort < 1024:
		return destination // it has the port of a service
	}
	return source
}

// isNeighbour reports whether a packet is of IPv6 neighbour discovery (RFC 4861), which
// belongs to no flow.
func isNeighbour(f *inspect.Flow) bool {
	return f.Protocol == inspect.ProtoICMPv6 && len(f.Transport) > 0 &&
		f.Transport[0] >= 133 && f.Transport[0] <= 137
}
