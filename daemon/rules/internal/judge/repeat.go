// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"bytes"
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// repeats are answers to packets of flows that were decided before. Further packets of
// such a flow and direction get the same answer, until a packet of the flow, its end, other
// rules, or time may change that. Each flow has one place, by its ports, where it displaces
// another.
type repeats [repeatFlows][2]repeat

const repeatFlows = 16

// repeat is for packets from the pod, or for such to it.
type repeat struct {
	flow     flowtab.Ref // 0: there is none
	protocol uint8
	length   uint8 // of ends
	ends     [maxEnds]byte
	user     int64
	outcome  Outcome
}

const maxEnds = 2*16 + 2*2

// place returns that of flows between two ports.
func (s *repeats) place(one, other uint16) *[2]repeat { return &s[(one+other)%repeatFlows] }

// steadily is remembered for a flow that has no work: a packet like this one changes
// nothing.
func (p *Pod) steadily(r flowtab.Ref) Outcome {
	if p.table.Facts(r).rules == p.version {
		p.steady = r
	}
	return p.remembered(r)
}

// repeatOf returns the repeat that answers a packet, or nil.
func (p *Pod) repeatOf(packet *Packet, h header) *repeat {
	if p.repeats == nil || h.protocol == 0 {
		return nil
	}
	r := &p.repeats.place(h.ports(packet.Payload))[direction(packet)]
	if r.flow == 0 || h.protocol != r.protocol || packet.SocketUID != r.user ||
		packet.Merged && r.protocol != inspect.ProtoTCP ||
		!bytes.Equal(h.ends(packet.Payload), r.ends[:r.length]) || !h.isSteady(packet) {
		return nil
	}
	return r
}

func direction(packet *Packet) int {
	if packet.Direction == inspect.Out {
		return 0
	}
	return 1
}

// noteRepeat remembers the answer to a packet if the next ones get it, too.
func (p *Pod) noteRepeat(packet *Packet, h header, o *Outcome) {
	flow := p.steady
	p.steady = 0
	switch {
	case h.protocol == 0: // whatever it is about
		p.forgetRepeats()
		return
	case flow == 0, packet.Merged && !p.isConnection(), !h.isSteady(packet):
		p.forgetRepeatsBetween(h.ports(packet.Payload))
		return
	}
	if p.repeats == nil {
		p.repeats = new(repeats)
	}
	r := &p.repeats.place(h.ports(packet.Payload))[direction(packet)]
	*r = repeat{flow: flow, protocol: h.protocol, user: packet.SocketUID, outcome: *o}
	r.length = uint8(copy(r.ends[:], h.ends(packet.Payload)))
}

// forgetRepeatsBetween forgets those of flows between two ports: one of them ends, or a
// packet may have changed it.
func (p *Pod) forgetRepeatsBetween(one, other uint16) {
	if p.repeats != nil {
		*p.repeats.place(one, other) = [2]repeat{}
	}
}

func (p *Pod) forgetRepeats() {
	if p.repeats != nil {
		*p.repeats = repeats{}
	}
}

// header is that of a packet of TCP or UDP without options of IP: what it is, and where its
// addresses begin and its transport. The ports are behind the addresses.
type header struct{ protocol, addresses, transport uint8 }

// readHeader returns nothing where a packet has options, is a part of one, is not as long
// as it says, or is of another protocol.
func readHeader(packet *Packet) (h header) {
	b, length := packet.Payload, packet.Length
	switch {
	case len(b) < 28 || len(b) > length:
	case b[0] == 0x45 && b[6]&^0x40 == 0 && b[7] == 0 &&
		int(binary.BigEndian.Uint16(b[2:])) == length:
		h = header{b[9], 12, 20}
	case b[0]>>4 == 6 && len(b) >= 48 && int(binary.BigEndian.Uint16(b[4:]))+40 == length:
		h = header{b[6], 8, 40}
	}
	if h.protocol != inspect.ProtoTCP && h.protocol != inspect.ProtoUDP {
		return header{}
	}
	return h
}

// ends returns the addresses and ports of a packet, as they are in it.
func (h header) ends(b []byte) []byte { return b[h.addresses : h.transport+4] }

// ports returns those of the source and the destination.
func (h header) ports(b []byte) (source, destination uint16) {
	b = b[h.transport:]
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

// isSteady reports whether a packet neither begins nor ends a connection.
func (h header) isSteady(packet *Packet) bool {
	b, length := packet.Payload[h.transport:], packet.Length-int(h.transport)
	if h.protocol == inspect.ProtoTCP {
		g, ok := stream.Parse(b, length)
		return ok && g.Flags&(stream.SYN|stream.FIN|stream.RST) == 0
	}
	b, _, ok := datagram(b, length)
	return ok && !isInitial(b)
}
