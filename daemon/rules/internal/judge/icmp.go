// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
)

const icmpHeader = 8

// Types of ICMP and ICMPv6 messages (RFC 792, 4443).
const (
	icmpEchoReply   = 0
	icmpEcho        = 8
	icmpv6Echo      = 128
	icmpv6EchoReply = 129
)

// icmp judges a message. Errors belong to the flow that they are about.
func (p *Pod) icmp() Outcome {
	f := &p.frame
	b := f.flow.Transport
	if len(b) < 4 {
		return Outcome{}
	}
	if p.forged() {
		return Outcome{Action: Drop, By: byChecksum}
	}
	v6 := f.flow.Protocol == inspect.ProtoICMPv6
	if isError(b[0], v6) && len(b) > icmpHeader && p.concernsAccepted(b[icmpHeader:]) {
		return Outcome{Action: Accept}
	}
	request, reply := byte(icmpEcho), byte(icmpEchoReply)
	if v6 {
		request, reply = icmpv6Echo, icmpv6EchoReply
	}
	if b[0] != request && b[0] != reply || len(b) < icmpHeader {
		return p.single(b[0], b[1])
	}
	id := binary.BigEndian.Uint16(b[4:])
	f.setKey(id, id)
	if r := p.table.Find(&f.key, f.now); r != 0 && !p.beginsOwn(r) {
		return withoutSettling(p.remembered(r))
	}
	if b[0] == reply {
		return p.single(b[0], b[1])
	}
	return withoutSettling(p.begin(f.side, p.icmpFacts(b[0], b[1])))
}

// single judges a message that begins no flow.
func (p *Pod) single(kind, code byte) Outcome {
	f := &p.frame
	f.setKey(uint16(kind), uint16(kind))
	fresh := p.icmpFacts(kind, code)
	p.fill(&f.key, f.side, &fresh)
	p.scratch.Reset()
	var mark, mask uint32
	d := p.ask(&fresh, &p.scratch, &mark, &mask, false)
	p.rule(&fresh, d, mark, mask)
	return withoutSettling(p.answer(&fresh))
}

func (p *Pod) icmpFacts(kind, code byte) facts {
	fresh := p.newFacts()
	fresh.icmpType, fresh.icmpCode = kind, code
	fresh.flags |= knowsApp
	return fresh
}

// withoutSettling keeps the kernel from deciding other messages between the same ends.
func withoutSettling(o Outcome) Outcome {
	o.Settle = false
	return o
}

// isError reports whether a message is about another packet.
func isError(kind byte, v6 bool) bool {
	if v6 {
		return kind >= 1 && kind <= 4
	}
	switch kind {
	case 3, 4, 11, 12:
		return true
	}
	return false
}

// concernsAccepted reports whether a packet, of which an error has the beginning, is of a
// flow that was not refused.
func (p *Pod) concernsAccepted(inner []byte) bool {
	packet := inspect.Packet{Payload: inner}
	flow, ok := packet.Flow()
	if !ok || flow.Fragment {
		return false
	}
	source, destination := flow.SourcePort, flow.DestinationPort
	if flow.Protocol == inspect.ProtoICMP || flow.Protocol == inspect.ProtoICMPv6 {
		if len(flow.Transport) < icmpHeader {
			return false
		}
		source = binary.BigEndian.Uint16(flow.Transport[4:])
		destination = source
	}
	key, _ := flowtab.KeyOf(flow.Source, flow.Destination, source, destination, flow.Protocol)
	r := p.table.Find(&key, p.frame.now)
	return r != 0 && !p.table.Facts(r).has(refused)
}
