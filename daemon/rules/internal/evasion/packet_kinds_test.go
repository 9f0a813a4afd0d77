// SPDX-License-Identifier: Apache-2.0

package evasion

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// The kernel puts fragments together before a pod's packets come. Where a capture has some,
// rules on addresses decide, and no piece is taken for the whole.
func TestFragments(t *testing.T) {
	play := func(client, server string) func(p *player, name string) {
		return func(p *player, name string) {
			c := p.conn(client, server).open()
			for _, b := range fragments(c.segment(ack, c.cseq, record(helloOf(name))).packet(), 80) {
				p.send(b)
			}
			p.got = slices.Compact(p.got)
		}
	}
	runEvasions(t, []evasion{
		{name: "fragments of IPv4 in a capture", want: "reject", deny: "accept", strict: "accept", always: true, play: play("10.0.0.1:40000", "203.0.113.5:443")},
		{name: "fragments of IPv6 in a capture", want: "reject", deny: "accept", strict: "accept", always: true, play: play("[fd00::1]:40000", "[2001:db8::5]:443")},
	})
}

// extended puts extension headers of IPv6 before what a packet carries.
func extended(packet []byte, kinds ...byte) []byte {
	carried, next := packet[40:], packet[6]
	for _, kind := range kinds {
		h := []byte{next, 0, 1, 4, 0, 0, 0, 0}
		if kind == inspect.ProtoFragment {
			h = []byte{next, 0, 0, 0, 0, 0, 0, 9}
		}
		carried, next = slices.Concat(h, carried), kind
	}
	b := slices.Concat(packet[:40], carried)
	b[6] = next
	binary.BigEndian.PutUint16(b[4:], uint16(len(carried)))
	return b
}

func TestIPv6(t *testing.T) {
	with := func(kinds ...byte) func(p *player, name string) {
		return func(p *player, name string) {
			c := p.conn("[fd00::1]:40000", "[2001:db8::5]:443").open()
			p.send(extended(c.segment(ack, c.cseq, record(helloOf(name))).packet(), kinds...))
		}
	}
	const options, routing, hopByHop = inspect.ProtoDstOpts, inspect.ProtoRouting, inspect.ProtoHopByHop
	runEvasions(t, []evasion{
		{name: "extension headers", want: "reject", play: with(options, routing, hopByHop)},
		{name: "fragment that is whole", want: "reject", play: with(inspect.ProtoFragment, options)},
		{name: "more extension headers than are read", want: "none", always: true, play: with(slices.Repeat([]byte{options}, 9)...)},
		{name: "fragment with headers only", want: "reject", deny: "accept", strict: "accept", always: true, play: func(p *player, _ string) {
			b := extended(segment{from: addrPort("[fd00::1]:40000"), to: addrPort("[2001:db8::5]:443"), flags: syn}.packet(), inspect.ProtoFragment)
			b[43] |= 1 // more follow
			p.send(b)
		}},
		{name: "jumbogram", want: "reject", play: func(p *player, name string) {
			c := p.conn("[fd00::1]:40000", "[2001:db8::5]:443").open()
			b := c.segment(ack, c.cseq, slices.Concat(record(helloOf(name)), make([]byte, 70000))).packet()
			jumbo := []byte{inspect.ProtoTCP, 0, 0xc2, 4, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(jumbo[4:], uint32(len(b)-40+8))
			b = slices.Concat(b[:40], jumbo, b[40:])
			b[4], b[5], b[6] = 0, 0, inspect.ProtoHopByHop
			p.send(b)
		}},
	})
	t.Run("address of IPv4 in one of IPv6", func(t *testing.T) {
		p := newPlayer(t, "\n  sets: {net: {cidrs: [203.0.113.0/24]}}\n  rules: [{name: net, when: sets.net.contains(server.ip), action: reject}]")
		p.conn("[::ffff:10.0.0.1]:40000", "[::ffff:203.0.113.5]:443").send(syn, 1, nil)
		p.end("reject")
	})
}

// Of protocols that carry others nothing is read: rules on addresses decide.
func TestOtherProtocols(t *testing.T) {
	inner := func(name string) []byte {
		return segment{from: addrPort("10.0.0.1:40000"), to: addrPort("203.0.113.5:443"), flags: ack, payload: record(helloOf(name))}.packet()
	}
	carrying := func(protocol byte, header int) func(p *player, name string) {
		return func(p *player, name string) {
			p.send(ip(addr("10.0.0.1"), addr("203.0.113.5"), protocol, append(make([]byte, header), inner(name)...)))
		}
	}
	chunks := func(p *player, name string) {
		b := []byte{0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0}
		for _, kind := range []byte{14, 0} { // two chunks
			chunk := append([]byte{kind, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, record(helloOf(name))...)
			binary.BigEndian.PutUint16(chunk[2:], uint16(len(chunk)))
			b = append(b, chunk...)
		}
		p.send(ip(addr("10.0.0.1"), addr("203.0.113.5"), inspect.ProtoSCTP, b))
	}
	var list []evasion
	for name, play := range map[string]func(p *player, name string){
		"SCTP of several chunks": chunks, "UDP-Lite": carrying(inspect.ProtoUDPLite, 8),
		"IP in IP": carrying(4, 0), "IPv6 in IP": carrying(41, 0), "GRE": carrying(47, 4), "ESP": carrying(50, 8),
	} {
		list = append(list, evasion{name: name, want: "reject", deny: "accept", strict: "accept", always: true, play: play})
	}
	list = append(list, evasion{name: "AH", want: "reject", play: func(p *player, name string) {
		c := p.conn("[fd00::1]:40000", "[2001:db8::5]:443").open()
		b := c.segment(ack, c.cseq, record(helloOf(name))).packet()
		b = slices.Concat(b[:40], []byte{b[6], 4, 0, 0}, make([]byte, 20), b[40:])
		b[6] = inspect.ProtoAH
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		p.send(b)
	}})
	runEvasions(t, list)
}
