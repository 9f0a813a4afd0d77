// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"bytes"
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// repeat is the answer to the last packet of one direction, if its flow was decided before.
// The packets behind it, which are of the same flow most often, get the same answer, until
// a packet, other rules, or time change anything of the pod.
type repeat struct {
	flow     flowtab.Ref // 0: there is none
	protocol uint8
	length   uint8 // of ends
	ends     [maxEnds]byte
	user     int64
	outcome  Outcome
}

const maxEnds = 2*16 + 2*2

// steadily is remembered for a flow that has no work: a packet like this one changes
// nothing.
func (p *Pod) steadily(r flowtab.Ref) Outcome {
	if p.table.Facts(r).rules == p.version {
		p.steady = r
	}
	return p.remembered(r)
}

// repeatOf returns the repeat for the direction of a packet.
func (p *Pod) repeatOf(packet *Packet) *repeat {
	if packet.Direction == inspect.Out {
		return &p.repeats[0]
	}
	return &p.repeats[1]
}

// noteRepeat remembers the answer to a packet if the next ones get it, too.
func (p *Pod) noteRepeat(packet *Packet, o Outcome) {
	flow := p.steady
	p.steady = 0
	if flow == 0 || packet.Merged && !p.isConnection() {
		p.forgetRepeats()
		return
	}
	if h, ok := readHeader(packet); ok && h.isSteady() {
		r := p.repeatOf(packet)
		*r = repeat{flow: flow, protocol: h.protocol, user: packet.SocketUID, outcome: o}
		r.length = uint8(copy(r.ends[:], h.ends))
	}
}

func (p *Pod) forgetRepeats() { p.repeats[0].flow, p.repeats[1].flow = 0, 0 }

// answers reports whether the packet gets the answer of the one before.
func (r *repeat) answers(packet *Packet) bool {
	if r.flow == 0 || packet.SocketUID != r.user ||
		packet.Merged && r.protocol != inspect.ProtoTCP {
		return false
	}
	h, ok := readHeader(packet)
	return ok && h.protocol == r.protocol && bytes.Equal(h.ends, r.ends[:r.length]) &&
		h.isSteady()
}

// header is that of a packet of IP without options, and with ports.
type header struct {
	protocol  uint8
	ends      []byte // addresses and ports, as they are in the packet
	transport []byte
	length    int // of transport on the wire
}

// readHeader returns false where a packet has options, is a part of one, or is not as long
// as it says.
func readHeader(packet *Packet) (header, bool) {
	b, length := packet.Payload, packet.Length
	switch {
	case len(b) < 28 || len(b) > length:
	case b[0] == 0x45 && b[6]&^0x40 == 0 && b[7] == 0 &&
		int(binary.BigEndian.Uint16(b[2:])) == length:
		return header{b[9], b[12:24], b[20:], length - 20}, true
	case b[0]>>4 == 6 && len(b) >= 48 && int(binary.BigEndian.Uint16(b[4:]))+40 == length:
		return header{b[6], b[8:44], b[40:], length - 40}, true
	}
	return header{}, false
}

// isSteady reports whether a packet of TCP or UDP neither begins nor ends a connection.
func (h *header) isSteady() bool {
	switch h.protocol {
	case inspect.ProtoTCP:
		g, ok := stream.Parse(h.transport, h.length)
		return ok && g.Flags&(stream.SYN|stream.FIN|stream.RST) == 0
	case inspect.ProtoUDP:
		b, _, ok := datagram(h.transport, h.length)
		return ok && !isInitial(b)
	}
	return false
}
