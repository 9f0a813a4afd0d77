// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
)

// The header is the textbook's example of RFC 1071's algorithm.
func TestFixIPv4Header(t *testing.T) {
	const header = "4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7"
	want := packet(t, header).Payload
	got := slices.Concat(want, make([]byte, 0x73-len(want)))
	got[len(want)+udpLength+1] = udpHeaderLen
	got[ipv4Checksum], got[ipv4Checksum+1] = 0xde, 0xad
	if !FixChecksums(got) || !bytes.Equal(got[:len(want)], want) {
		t.Errorf("%x, want %x", got[:len(want)], want)
	}
}

func TestFixChecksumsRefuses(t *testing.T) {
	const v4 = "45000020 00010000 40110000 0a0a0001 0a0a0002"
	for name, s := range map[string]string{
		"nothing":              "",
		"no IP":                "0000 0000",
		"cut transport":        ipv4UDP[:len(v4)+9],
		"IPv4 length too much": "45000021" + ipv4UDP[8:],
		"IPv4 length too low":  "4500001f" + ipv4UDP[8:],
		"UDP length too much":  v4 + "04d2 0050 000d 0000 64617461",
		"UDP length too low":   v4 + "04d2 0050 0007 0000 64617461",
		"short TCP header": "45000028 00010000 40060000 0a0a0001 0a0a0002" +
			"04d20050 00000000 00000000 40000000 00000000",
		"TCP header beyond the end": "45000028 00010000 40060000 0a0a0001 0a0a0002" +
			"04d20050 00000000 00000000 60000000 00000000",
		"UDP-Lite coverage too low": "45000020 00010000 40880000 0a0a0001 0a0a0002" +
			"04d2 0050 0007 0000 64617461",
		"IPv4 option beyond its header": "46000024 00010000 40110000 0a0a0001 0a0a0002 94050000" +
			"04d2 0050 000c 0000 64617461",
		"IPv6 length too low":   "60000000 000c 11 40" + v6addrs + "04d2 0050 000c 0000 64617461 00",
		"unknown routing type":  "60000000 0014 2b 40" + v6addrs + "1100 0901 00000000 04d2 0050 000c 0000 64617461",
		"route without address": "60000000 0014 2b 40" + v6addrs + "1100 0001 00000000 04d2 0050 000c 0000 64617461",
	} {
		b := packet(t, s).Payload
		before := bytes.Clone(b)
		if FixChecksums(b) || !bytes.Equal(b, before) {
			t.Errorf("%s: fixed to %x", name, b)
		}
	}
}

// built is a packet with right checksums, made without the code that is tested.
type built struct {
	packet []byte
	ip, at int // where checksums are; 0 for none
}

// shape chooses what a packet is made of, by its digits.
type shape uint64

func (s *shape) choose(n int) int {
	x := int(uint64(*s) % uint64(n))
	*s /= shape(n)
	return x
}

const shapes = 2 * 6 * 7 * 3 * 2

// build makes a packet of a shape, with these bytes for its addresses and data.
func build(s shape, data []byte) built {
	random := func(n int) []byte {
		b := make([]byte, n)
		data = data[copy(b, data):]
		return b
	}
	v4, kind, extra, size, fragment := s.choose(2) == 0, s.choose(6), s.choose(7), s.choose(3), s.choose(2) == 1
	addressLen := 16
	if v4 {
		addressLen = 4
	}
	source, next, last := random(addressLen), random(addressLen), random(addressLen)
	payload := random(size * 7)
	var header, final []byte
	protocol := []byte{ProtoTCP, ProtoUDP, ProtoUDP, ProtoUDPLite, ProtoICMP, ProtoSCTP}[kind]
	if !v4 && protocol == ProtoICMP {
		protocol = ProtoICMPv6
	}
	if v4 {
		header, final = buildIPv4(extra, source, next, last, protocol)
	} else {
		header, final = buildIPv6(extra, source, next, last, protocol)
	}
	if fragment && v4 {
		header[6] |= 0x20
	}
	if fragment && !v4 {
		header = append(header, protocol, 0, 0, 1, 0, 0, 0, 9)
		setLastNext(header, extra)
	}
	transport, at, covered, length := buildTransport(kind, random(8), payload)
	if v4 {
		binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(transport)))
		binary.BigEndian.PutUint16(header[10:], plain(header))
	} else {
		binary.BigEndian.PutUint16(header[4:], uint16(len(header)+len(transport)-40))
	}
	b := built{packet: append(header, transport...)}
	if v4 {
		b.ip = 10
	}
	if at == 0 {
		return b
	}
	over := slices.Clone(transport[:covered])
	if protocol != ProtoICMP {
		over = slices.Concat(source, final, []byte{0, protocol, 0, 0, byte(length >> 8), byte(length)}, over)
	}
	c := plain(over)
	if c == 0 && (protocol == ProtoUDP || protocol == ProtoUDPLite) {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b.packet[len(header)+at:], c)
	if !fragment {
		b.at = len(header) + at
	}
	return b
}

// plain is the checksum as RFC 791 describes it, a word at a time.
func plain(b []byte) uint16 {
	total := uint16(0)
	for i := 0; i < len(b); i += 2 {
		word := uint16(b[i]) * 256
		if i+1 < len(b) {
			word += uint16(b[i+1])
		}
		before := total
		if total += word; total < before {
			total++
		}
	}
	return 0xffff - total
}

// buildIPv4 returns a header and the address where the packet goes in the end.
func buildIPv4(extra int, source, next, last []byte, protocol byte) (header, final []byte) {
	var options []byte
	destination, final := last, last
	switch extra {
	case 1: // router alert
		options = []byte{148, 4, 0, 0}
	case 2: // a loose source route, two hops before its end
		options = slices.Concat([]byte{1, 131, 11, 4}, next, last)
		destination = next
	case 3: // a strict one
		options = slices.Concat([]byte{137, 7, 4}, last, []byte{0})
		destination = next
	case 4: // one that is over
		options = slices.Concat([]byte{131, 7, 8}, next, []byte{0})
	case 5: // what follows the end is no option
		options = []byte{0, 131, 99, 4}
	}
	header = slices.Concat([]byte{
		byte(0x45 + len(options)/4), 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0,
	}, source, destination, options)
	return header, final
}

func buildIPv6(extra int, source, next, last []byte, protocol byte) (header, final []byte) {
	destination, final := next, last
	first := byte(ProtoRouting)
	var extension []byte
	zero4 := []byte{0, 0, 0, 0}
	switch extra {
	case 1:
		extension = slices.Concat([]byte{protocol, 4, 0, 2}, zero4, source, last)
	case 2:
		extension = slices.Concat([]byte{protocol, 2, 2, 1}, zero4, last)
	case 3: // segments, the last one first
		extension = slices.Concat([]byte{protocol, 4, 4, 1}, zero4, last, source)
	case 4: // RPL: 11 bytes are the destination's, 3 are padding
		copy(last, next[:11])
		extension = slices.Concat([]byte{protocol, 1, 3, 1, 11, 3 << 4, 0, 0}, last[11:], []byte{0, 0, 0})
	case 5: // one that is over, of a type that is not known
		destination = last
		extension = slices.Concat([]byte{protocol, 0, 99, 0}, zero4)
	case 6:
		destination, first = last, ProtoHopByHop
		extension = []byte{protocol, 0, 1, 4, 0, 0, 0, 0}
	default:
		destination, first = last, protocol
	}
	header = slices.Concat([]byte{0x60, 0, 0, 0, 0, 0, first, 64}, source, destination, extension)
	return header, final
}

// setLastNext has the header before a fragment header name it.
func setLastNext(header []byte, extra int) {
	at := 40
	if extra == 0 {
		at = 6
	}
	header[at] = ProtoFragment
}

// buildTransport returns a transport header with its data; the checksum at at is
// over covered bytes, with length in the pseudo header.
func buildTransport(
	kind int, ports, data []byte,
) (b []byte, at, covered, length int) {
	switch kind {
	case 0:
		head := slices.Concat(ports, []byte{0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0})
		b, at = append(head, data...), 16
		return b, at, len(b), len(b)
	case 1: // nothing behind UDP's length
		b = slices.Concat(ports[:4], []byte{0, byte(8 + len(data)), 0, 0}, data)
		return b, 6, len(b), len(b)
	case 2: // UDP with bytes behind its length
		b = slices.Concat(ports[:4], []byte{0, 8, 0, 0}, data)
		return b, 6, 8, 8
	case 3: // half of it is covered
		b = slices.Concat(ports[:4], []byte{0, byte(8 + len(data)/2), 0, 0}, data)
		return b, 6, 8 + len(data)/2, len(b)
	case 4:
		b = slices.Concat(ports[:2], []byte{0, 0}, ports[4:], data)
		return b, 2, len(b), len(b)
	}
	return slices.Concat(ports, data), 0, 0, 0
}

// What was right is not changed, and what was not becomes what was right.
func checkBuilt(t *testing.T, s shape, data []byte) {
	t.Helper()
	b := build(s, data)
	got := bytes.Clone(b.packet)
	if !FixChecksums(got) || !bytes.Equal(got, b.packet) {
		t.Fatalf("shape %d: fixed\n%x, to\n%x", s, b.packet, got)
	}
	for _, at := range []int{b.ip, b.at} {
		if at > 0 {
			got[at] ^= 0x5a
			got[at+1] |= 1 // not zero
		}
	}
	if !FixChecksums(got) || !bytes.Equal(got, b.packet) {
		t.Fatalf("shape %d: spoilt and fixed\n%x, want\n%x", s, got, b.packet)
	}
}

func TestFixChecksumsKeepsRight(t *testing.T) {
	data := make([]byte, 96)
	for i := range data {
		data[i] = byte(i*i*7 + 13)
	}
	for s := range shape(shapes) {
		checkBuilt(t, s, data)
		checkBuilt(t, s, nil)
	}
}

func FuzzFixChecksumsKeepsRight(f *testing.F) {
	for s := range uint64(shapes) {
		f.Add(s, []byte("some bytes"))
	}
	f.Fuzz(func(t *testing.T, s uint64, data []byte) { checkBuilt(t, shape(s%shapes), data) })
}

// A UDP checksum of zero says that there is none over IPv4, and is wrong over
// IPv6.
func TestFixChecksumsWithoutUDPChecksum(t *testing.T) {
	b := packet(t, ipv4UDP).Payload
	if !FixChecksums(b) || b[26] != 0 || b[27] != 0 {
		t.Errorf("fixed to %x", b)
	}
	b = packet(t, "60000000 000c 11 40"+v6addrs+"04d2 0050 000c 0000 64617461").Payload
	if !FixChecksums(b) || b[46] == 0 && b[47] == 0 {
		t.Errorf("fixed to %x", b)
	}
}

// What is fixed stays as it is, and what is refused has not been changed.
func FuzzFixChecksums(f *testing.F) {
	for _, s := range []string{ipv4UDP, ipv4TCPOptions, ipv4ICMP, ipv6FirstFragment, ipv6AH} {
		f.Add(packet(f, s).Payload)
	}
	for s := range shape(shapes) {
		f.Add(build(s, []byte("some bytes")).packet)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		if !FixChecksums(b) {
			if !bytes.Equal(b, before) {
				t.Errorf("refused, and changed to %x", b)
			}
			return
		}
		flow, ok := (&Packet{Payload: b}).Flow()
		if header := b[:len(b)-len(flow.Transport)]; ok && flow.Source.Is4() && plain(header) != 0 {
			t.Errorf("IPv4 header sums up to %#x", plain(header))
		}
		again := bytes.Clone(b)
		if !FixChecksums(again) || !bytes.Equal(again, b) {
			t.Errorf("fixed to %x, and then to %x", b, again)
		}
	})
}

// What FixChecksums makes is right, and what was spoilt is not.
func checkVerify(t *testing.T, s shape, data []byte) {
	t.Helper()
	b := build(s, data)
	right, known := VerifyChecksum(b.packet)
	none := b.at == 0 || binary.BigEndian.Uint16(b.packet[b.at:]) == 0 && isUDP(b.packet)
	if known == none || right != known {
		t.Fatalf("shape %d: right %t, known %t: %x", s, right, known, b.packet)
	}
	if !known {
		return
	}
	for at := b.at; at < b.at+2; at++ {
		for bit := range 8 {
			spoilt := bytes.Clone(b.packet)
			spoilt[at] ^= 1 << bit
			right, known := VerifyChecksum(spoilt)
			equal := same(spoilt[b.at:], b.packet[b.at:])
			gone := isUDP(spoilt) && binary.BigEndian.Uint16(spoilt[b.at:]) == 0
			if !gone && (!known || right != equal) || gone && right {
				t.Fatalf("shape %d: spoilt, right %t, known %t: %x", s, right, known, spoilt)
			}
		}
	}
}

// same reports that two checksums are the same number: 0 has two forms.
func same(a, b []byte) bool {
	return binary.BigEndian.Uint16(a)%0xffff == binary.BigEndian.Uint16(b)%0xffff
}

func isUDP(b []byte) bool {
	flow, ok := (&Packet{Payload: b}).Flow()
	return ok && (flow.Protocol == ProtoUDP || flow.Protocol == ProtoUDPLite)
}

func TestVerifyChecksum(t *testing.T) {
	data := make([]byte, 96)
	for i := range data {
		data[i] = byte(i*i*11 + 5)
	}
	for s := range shape(shapes) {
		checkVerify(t, s, data)
		checkVerify(t, s, nil)
	}
}

func TestVerifyChecksumUnknown(t *testing.T) {
	whole := build(0, []byte("some bytes")).packet
	for n := range len(whole) {
		if right, known := VerifyChecksum(whole[:n]); right || known {
			t.Errorf("cut at %d: right %t, known %t", n, right, known)
		}
	}
	zero := packet(t, "60000000 000c 11 40"+v6addrs+"04d2 0050 000c 0000 64617461").Payload
	if right, known := VerifyChecksum(zero); right || !known {
		t.Errorf("UDP without a checksum over IPv6: right %t, known %t", right, known)
	}
	if right, known := VerifyChecksum(packet(t, ipv4UDP).Payload); right || known {
		t.Errorf("UDP without a checksum over IPv4: right %t, known %t", right, known)
	}
}

// Whatever FixChecksums makes is right, and both look at the same packets.
func FuzzVerifyChecksum(f *testing.F) {
	for _, s := range []string{ipv4UDP, ipv4TCPOptions, ipv4ICMP, ipv6FirstFragment, ipv6AH} {
		f.Add(packet(f, s).Payload)
	}
	for s := range shape(shapes) {
		f.Add(build(s, []byte("some bytes")).packet)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		right, known := VerifyChecksum(b)
		if right && !known {
			t.Error("right, and not known")
		}
		fixed := bytes.Clone(b)
		if !FixChecksums(fixed) {
			if known {
				t.Errorf("known, and refused: %x", b)
			}
			return
		}
		if again, still := VerifyChecksum(fixed); again != still || still != known {
			t.Errorf("known %t; of %x right %t, known %t", known, fixed, again, still)
		}
	})
}

func TestSum(t *testing.T) {
	b := make([]byte, 70)
	for i := range b {
		b[i] = byte(0xff - i*i)
	}
	for n := range len(b) {
		if got, want := fold(sum(0, b[:n])), plain(b[:n]); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func BenchmarkVerifyChecksum(b *testing.B) {
	for _, size := range []int{40, 1500, 65535} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			p := make([]byte, size)
			p[0], p[9], p[32] = 0x45, ProtoTCP, 0x50
			binary.BigEndian.PutUint16(p[2:], uint16(size))
			if !FixChecksums(p) {
				b.Fatal("malformed")
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if right, known := VerifyChecksum(p); !right || !known {
					b.Fatal("wrong")
				}
			}
		})
	}
}
