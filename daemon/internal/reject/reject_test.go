// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// The ends of flows.
func client4() netip.Addr { return netip.MustParseAddr("192.0.2.1") }
func server4() netip.Addr { return netip.MustParseAddr("198.51.100.2") }
func client6() netip.Addr { return netip.MustParseAddr("2001:db8::1") }
func server6() netip.Addr { return netip.MustParseAddr("2001:db8:1::2") }

// ip returns a whole packet.
func ip(from, to netip.Addr, protocol byte, transport []byte) []byte {
	if from.Is6() {
		b := []byte{6 << 4, 0, 0, 0, 0, 0, protocol, 64}
		binary.BigEndian.PutUint16(b[4:], uint16(len(transport)))
		return slices.Concat(b, from.AsSlice(), to.AsSlice(), transport)
	}
	b := []byte{4<<4 | 5, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4HeaderLen+len(transport)))
	return slices.Concat(b, from.AsSlice(), to.AsSlice(), transport)
}

// The receiver believes a reset that has the number of the first byte that it has not got.
func TestWithheld(t *testing.T) {
	p := packet(ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 3, 200, "data")))
	for _, a := range NewAnswers().Make(p, 5, 1) {
		f, _ := packet(a.Packet).Flow()
		seq, acked := binary.BigEndian.Uint32(f.Transport[4:]), binary.BigEndian.Uint32(f.Transport[8:])
		if a.Back && (seq != 200 || acked != 7) || !a.Back && (seq != 1<<32-2 || acked != 200) {
			t.Errorf("back %t: %d, %d", a.Back, seq, acked)
		}
	}
}

// segment is one of TCP, from port 1000 to 443.
func segment(flags byte, seq, acked uint32, payload string) []byte {
	b := []byte{1000 >> 8, 1000 & 0xff, 443 >> 8, 443 & 0xff}
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, acked)
	b = append(b, 6<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(append(b, 2, 4, 5, 0xb4), payload...) // with an option
}

func datagram(payload int) []byte {
	b := []byte{1000 >> 8, 1000 & 0xff, 0, 53, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[4:], uint16(8+payload))
	return append(b, make([]byte, payload)...)
}

func packet(b []byte) *inspect.Packet {
	return &inspect.Packet{Direction: inspect.Out, Payload: b, Length: len(b)}
}

// answers makes the answers to a packet and checks what all of them have.
func answers(t *testing.T, p *inspect.Packet) []Answer {
	t.Helper()
	asked, _ := p.Flow()
	list := NewAnswers().Make(p, 0, 0xffff0000)
	for i, a := range list {
		f, ok := packet(a.Packet).Flow()
		from, to := asked.Source, asked.Destination
		if a.Back {
			from, to = to, from
		}
		if !ok || f.Source != from || f.Destination != to || a.Destination != to {
			t.Fatalf("answer %d goes from %v to %v (%v): want %v to %v",
				i, f.Source, f.Destination, a.Destination, from, to)
		}
		whole := slices.Clone(a.Packet)
		if !inspect.FixChecksums(whole) || !slices.Equal(whole, a.Packet) {
			t.Errorf("answer %d has wrong lengths or checksums: %x", i, a.Packet)
		}
	}
	return list
}

func TestResets(t *testing.T) {
	type reset struct {
		back       bool
		flags      byte
		seq, acked uint32
	}
	for _, tt := range []struct {
		name       string
		flags      byte
		seq, acked uint32
		payload    string
		want       []reset
	}{
		{"SYN", syn, 100, 0, "", []reset{{true, rst | ack, 0, 101}}},
		{"SYN with data", syn, 100, 7, "data", []reset{{true, rst | ack, 0, 105}}},
		{
			"SYN and ACK", syn | ack, 100, 200, "",
			[]reset{{true, rst | ack, 200, 101}, {false, rst | ack, 100, 200}},
		},
		{
			"data", ack | 8, 100, 200, "data",
			[]reset{{true, rst | ack, 200, 104}, {false, rst | ack, 100, 200}},
		},
		{
			"the end, and a number that wraps", fin | ack, 1<<32 - 1, 200, "data",
			[]reset{{true, rst | ack, 200, 4}, {false, rst | ack, 1<<32 - 1, 200}},
		},
		{
			"no ACK", 0, 100, 7, "data",
			[]reset{{true, rst | ack, 0, 104}, {false, rst, 100, 0}},
		},
		{"RST", rst, 100, 0, "", nil},
		{"RST and ACK", rst | ack, 100, 200, "", nil},
	} {
		for _, b := range [][]byte{
			ip(client4(), server4(), inspect.ProtoTCP, segment(tt.flags, tt.seq, tt.acked, tt.payload)),
			ip(client6(), server6(), inspect.ProtoTCP, segment(tt.flags, tt.seq, tt.acked, tt.payload)),
		} {
			var got []reset
			for _, a := range answers(t, packet(b)) {
				f, _ := packet(a.Packet).Flow()
				if a.Back != (f.SourcePort == 443) || len(f.Transport) != tcpHeaderLen {
					t.Errorf("%s: from port %d, %d bytes", tt.name, f.SourcePort, len(f.Transport))
				}
				got = append(got, reset{
					a.Back, f.Transport[tcpFlags],
					binary.BigEndian.Uint32(f.Transport[4:]),
					binary.BigEndian.Uint32(f.Transport[8:]),
				})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			}
		}
	}
}

// The length of a packet that was copied in part counts whole.
func TestResetOfTruncated(t *testing.T) {
	for _, b := range [][]byte{
		ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 100, 200, "data")),
		ip(client6(), server6(), inspect.ProtoTCP, segment(ack, 100, 200, "data")),
	} {
		p := packet(b)
		p.Payload, p.Length = b[:len(b)-8], 100000+len(b)
		list := answers(t, p)
		if len(list) != 2 {
			t.Fatalf("%d answers", len(list))
		}
		f, _ := packet(list[0].Packet).Flow()
		if got := binary.BigEndian.Uint32(f.Transport[8:]); got != 100+4+100000 {
			t.Errorf("acknowledges %d", got)
		}
	}
}

func TestUnreachable(t *testing.T) {
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	echo6 := []byte{128, 0, 0, 0, 0, 1, 0, 1}
	sctp := append([]byte{3, 232, 0, 80}, make([]byte, 40)...)
	hop := append([]byte{inspect.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, datagram(10)...)
	firstFragment := ip(client4(), server4(), inspect.ProtoUDP, datagram(100))
	firstFragment[6] = 0x20
	options := ip(client4(), server4(), inspect.ProtoUDP, slices.Concat([]byte{1, 1, 1, 0}, datagram(4)))
	options[0]++
	for _, tt := range []struct {
		name   string
		packet []byte
		code   byte // of IPv4, or of IPv6
		quoted int
	}{
		{"UDP", ip(client4(), server4(), inspect.ProtoUDP, datagram(10)), 3, 38},
		{"UDP, long", ip(client4(), server4(), inspect.ProtoUDP, datagram(5000)), 3, 548},
		{"UDP, first fragment", firstFragment, 3, 128},
		{"UDP, options", options, 3, 36},
		{"UDP-Lite", ip(client4(), server4(), inspect.ProtoUDPLite, datagram(1)), 13, 29},
		{"echo", ip(client4(), server4(), inspect.ProtoICMP, echo), 13, 28},
		{"SCTP", ip(client4(), server4(), inspect.ProtoSCTP, sctp), 13, 64},
		{"no payload", ip(client4(), server4(), 200, nil), 13, 20},
		{"ICMPv6 over IPv4", ip(client4(), server4(), inspect.ProtoICMPv6, echo), 13, 28},
		{"UDP", ip(client6(), server6(), inspect.ProtoUDP, datagram(10)), 4, 58},
		{"UDP, long", ip(client6(), server6(), inspect.ProtoUDP, datagram(5000)), 4, 1232},
		{"UDP, options", ip(client6(), server6(), inspect.ProtoHopByHop, hop), 4, 66},
		{"echo", ip(client6(), server6(), inspect.ProtoICMPv6, echo6), 1, 48},
		{"SCTP", ip(client6(), server6(), inspect.ProtoSCTP, sctp), 1, 84},
		{"no next header", ip(client6(), server6(), inspect.ProtoNone, nil), 1, 40},
	} {
		list := answers(t, packet(tt.packet))
		if len(list) != 1 || !list[0].Back {
			t.Errorf("%s: %d answers", tt.name, len(list))
			continue
		}
		f, _ := packet(list[0].Packet).Flow()
		kind, protocol := byte(icmpUnreachable), byte(inspect.ProtoICMP)
		if f.Source.Is6() {
			kind, protocol = icmpv6Unreachable, inspect.ProtoICMPv6
		}
		got := f.Transport
		if f.Protocol != protocol || got[0] != kind || got[1] != tt.code ||
			!slices.Equal(got[icmpHeaderLen:], tt.packet[:tt.quoted]) {
			t.Errorf("%s: protocol %d, %d/%d with %d bytes: want %d/%d with %d", tt.name, f.Protocol,
				got[0], got[1], len(got)-icmpHeaderLen, kind, tt.code, tt.quoted)
		}
	}
}

// with returns what change makes of a packet.
func with(b []byte, change func([]byte)) []byte {
	change(b)
	return b
}

func TestNotAnswered(t *testing.T) {
	udp, tcp := datagram(10), segment(ack, 1, 2, "data")
	route := func(left byte) []byte {
		return append([]byte{inspect.ProtoUDP, 0, 4, left, 0, 0, 0, 0}, udp...)
	}
	fragment := func(offset byte) []byte {
		return append([]byte{inspect.ProtoUDP, 0, 0, offset, 0, 0, 0, 1}, udp...)
	}
	for name, b := range map[string][]byte{
		"empty":                 {},
		"neither IPv4 nor IPv6": {5 << 4, 0, 0, 0},
		"half a header":         ip(client4(), server4(), inspect.ProtoUDP, udp)[:12],
		"half a header, IPv6":   ip(client6(), server6(), inspect.ProtoUDP, udp)[:30],
		"half a TCP header":     ip(client4(), server4(), inspect.ProtoTCP, tcp[:19]),
		"TCP header too short": ip(client4(), server4(), inspect.ProtoTCP,
			with(segment(ack, 1, 2, ""), func(b []byte) { b[12] = 4 << 4 })),
		"TCP header beyond the end": ip(client4(), server4(), inspect.ProtoTCP,
			with(segment(ack, 1, 2, ""), func(b []byte) { b[12] = 15 << 4 })),
		"unreachable":        ip(client4(), server4(), inspect.ProtoICMP, []byte{3, 1, 0, 0, 0, 0, 0, 0}),
		"time exceeded":      ip(client4(), server4(), inspect.ProtoICMP, []byte{11, 0, 0, 0, 0, 0, 0, 0}),
		"parameter problem":  ip(client4(), server4(), inspect.ProtoICMP, []byte{12, 0, 0, 0, 0, 0, 0, 0}),
		"redirect":           ip(client4(), server4(), inspect.ProtoICMP, []byte{5, 0, 0, 0, 0, 0, 0, 0}),
		"source quench":      ip(client4(), server4(), inspect.ProtoICMP, []byte{4, 0, 0, 0, 0, 0, 0, 0}),
		"unknown ICMP":       ip(client4(), server4(), inspect.ProtoICMP, []byte{77, 0, 0, 0, 0, 0, 0, 0}),
		"empty ICMP":         ip(client4(), server4(), inspect.ProtoICMP, nil),
		"packet too big":     ip(client6(), server6(), inspect.ProtoICMPv6, []byte{2, 0, 0, 0, 0, 0, 0, 0}),
		"unknown ICMPv6":     ip(client6(), server6(), inspect.ProtoICMPv6, []byte{101, 0, 0, 0}),
		"redirect, IPv6":     ip(client6(), server6(), inspect.ProtoICMPv6, []byte{137, 0, 0, 0}),
		"solicitation":       ip(client6(), server6(), inspect.ProtoICMPv6, []byte{135, 0, 0, 0}),
		"listener report":    ip(client6(), server6(), inspect.ProtoICMPv6, []byte{143, 0, 0, 0}),
		"empty ICMPv6":       ip(client6(), server6(), inspect.ProtoICMPv6, nil),
		"to multicast":       ip(client4(), netip.MustParseAddr("224.0.0.251"), inspect.ProtoUDP, udp),
		"to broadcast":       ip(client4(), netip.MustParseAddr("255.255.255.255"), inspect.ProtoUDP, udp),
		"to multicast, IPv6": ip(client6(), netip.MustParseAddr("ff02::fb"), inspect.ProtoUDP, udp),
		"TCP to multicast":   ip(client4(), netip.MustParseAddr("224.0.0.251"), inspect.ProtoTCP, tcp),
		"from nobody":        ip(netip.IPv4Unspecified(), server4(), inspect.ProtoUDP, udp),
		"from nobody, IPv6":  ip(netip.IPv6Unspecified(), server6(), inspect.ProtoUDP, udp),
		"from multicast":     ip(netip.MustParseAddr("ff02::1"), server6(), inspect.ProtoTCP, tcp),
		"from IPv4 in IPv6":  ip(netip.MustParseAddr("::ffff:192.0.2.1"), server6(), inspect.ProtoTCP, tcp),
		"later fragment": with(ip(client4(), server4(), inspect.ProtoUDP, udp),
			func(b []byte) { b[7] = 1 }),
		"later fragment, IPv6": ip(client6(), server6(), inspect.ProtoFragment, fragment(8)),
		"on its way":           ip(client6(), server6(), inspect.ProtoRouting, route(1)),
		"source route": with(ip(client4(), server4(), inspect.ProtoUDP,
			append([]byte{131, 7, 4, 192, 0, 2, 9, 0}, udp...)), func(b []byte) { b[0] += 2 }),
		"malformed option": with(ip(client4(), server4(), inspect.ProtoUDP,
			append([]byte{68, 9, 4, 0}, udp...)), func(b []byte) { b[0]++ }),
	} {
		if list := NewAnswers().Make(packet(b), 0, 1); len(list) != 0 {
			t.Errorf("%s: %d answers", name, len(list))
		}
	}
	for name, b := range map[string][]byte{
		"first fragment": ip(client6(), server6(), inspect.ProtoFragment, fragment(1)),
		"arrived":        ip(client6(), server6(), inspect.ProtoRouting, route(0)),
	} {
		if list := answers(t, packet(b)); len(list) != 1 {
			t.Errorf("%s: %d answers", name, len(list))
		}
	}
	short := packet(ip(client4(), server4(), inspect.ProtoUDP, udp))
	short.Payload = short.Payload[:24]
	if list := NewAnswers().Make(short, 0, 1); len(list) != 0 {
		t.Errorf("copied too little: %d answers", len(list))
	}
}

func TestAnswersAllocateNothing(t *testing.T) {
	a := NewAnswers()
	tcp := packet(ip(client6(), server6(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	udp := packet(ip(client6(), server6(), inspect.ProtoUDP, datagram(5000)))
	if n := testing.AllocsPerRun(100, func() {
		if len(a.Make(tcp, 0, 1)) != 2 || len(a.Make(udp, 0, 1)) != 1 {
			t.Error("not answered")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnswers(b *testing.B) {
	a := NewAnswers()
	p := packet(ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	for b.Loop() {
		a.Make(p, 0, 1)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, b := range [][]byte{
		ip(client4(), server4(), inspect.ProtoTCP, segment(syn, 1, 0, "")),
		ip(client6(), server6(), inspect.ProtoTCP, segment(ack|fin, 1, 2, "data")),
		ip(client4(), server4(), inspect.ProtoUDP, datagram(600)),
		ip(client6(), server6(), inspect.ProtoUDP, datagram(1300)),
		ip(client4(), server4(), inspect.ProtoICMP, []byte{8, 0, 0, 0, 0, 1, 0, 1}),
		ip(client6(), server6(), inspect.ProtoHopByHop,
			append([]byte{inspect.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, datagram(10)...)),
		ip(client6(), server6(), inspect.ProtoRouting,
			append([]byte{inspect.ProtoUDP, 0, 4, 1, 0, 0, 0, 0}, datagram(10)...)),
	} {
		f.Add(b, 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, more int) {
		p := &inspect.Packet{Payload: b, Length: len(b) + max(0, more)%(1<<20)}
		for _, a := range answers(t, p) {
			if len(a.Packet) > icmpv6MaxLen || a.Destination.Is4() && len(a.Packet) > icmpMaxLen {
				t.Errorf("%d bytes", len(a.Packet))
			}
			if a.Destination.IsMulticast() || a.Destination.IsUnspecified() {
				t.Errorf("to %v", a.Destination)
			}
			if again := NewAnswers().Make(packet(a.Packet), 0, 1); len(again) != 0 {
				t.Error("an answer is answered")
			}
		}
	})
}
