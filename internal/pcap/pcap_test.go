// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// datagram is a whole IPv4 packet of 28 bytes.
func datagram() []byte {
	return unhex("4500001c 00010000 40110000 0a000001 0a000002 13880035 00080000")
}

// datagram6 is a whole IPv6 packet of 48 bytes.
func datagram6() []byte {
	return unhex("60000000 00081140" + strings.Repeat("fd000000", 8) + "13880035 00080000")
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// join returns all bytes in one slice of its own.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

type order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// classic returns a file of pcap with frames that were captured whole.
func classic(o order, magic, linkType uint32, frames ...[]byte) []byte {
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(o.AppendUint16(b, 2), 4)
	for _, v := range []uint32{0, 0, 65535, linkType} {
		b = o.AppendUint32(b, v)
	}
	for i, frame := range frames {
		for _, v := range []uint32{uint32(i), 5, uint32(len(frame)), uint32(len(frame))} {
			b = o.AppendUint32(b, v)
		}
		b = append(b, frame...)
	}
	return b
}

// ngBlock returns a block of pcapng.
func ngBlock(o order, kind uint32, body ...[]byte) []byte {
	all := join(body...)
	for len(all)%4 != 0 {
		all = append(all, 0)
	}
	length := uint32(len(all) + blockFrame)
	b := o.AppendUint32(o.AppendUint32(nil, kind), length)
	return o.AppendUint32(append(b, all...), length)
}

func words(o order, values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = o.AppendUint32(b, v)
	}
	return b
}

func option(o order, code uint16, value string) []byte {
	b := o.AppendUint16(o.AppendUint16(nil, code), uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func section(o order, options ...[]byte) []byte {
	version := o.AppendUint16(o.AppendUint16(nil, 1), 0)
	return ngBlock(o, blockSection, words(o, byteOrderMagic), version,
		words(o, ^uint32(0), ^uint32(0)), join(options...))
}

func iface(o order, linkType uint16, snapLen uint32, options ...[]byte) []byte {
	return ngBlock(o, blockInterface, o.AppendUint16(o.AppendUint16(nil, linkType), 0),
		words(o, snapLen), join(options...))
}

func padded(b []byte) []byte {
	return append(bytes.Clone(b), make([]byte, (4-len(b)%4)%4)...)
}

// ngPacket returns the block of a packet that had 28 bytes.
func ngPacket(o order, in uint32, stamp uint64, data []byte, options ...[]byte) []byte {
	return ngBlock(o, blockPacket,
		words(o, in, uint32(stamp>>32), uint32(stamp), uint32(len(data)), 28),
		padded(data), join(options...))
}

// seen is what a test compares of a packet.
type seen struct {
	Number             int
	Time, IP           string
	Length             int
	Name, Pod, Comment string
	Direction          Direction
}

func readAll(b []byte) (all []seen, others int, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, 0, err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, r.Others(), nil
		}
		if err != nil {
			return all, r.Others(), err
		}
		s := seen{
			Number: p.Number, IP: hex.EncodeToString(p.IP), Length: p.Length,
			Name: p.Interface.Name, Comment: p.Comment, Direction: p.Direction,
		}
		if !p.Time.IsZero() {
			s.Time = p.Time.Format(time.RFC3339Nano)
		}
		if namespace, name, ok := p.Interface.Pod(); ok {
			s.Pod = namespace + " " + name
		}
		all = append(all, s)
	}
}

// A capture of several nodes says where each interface is.
func TestPodOfNode(t *testing.T) {
	in := Interface{
		program: "nsqueuectl 1", Name: "agents/a1",
		Description: "container 0fd31c8e5a2b77aa01, interface eth0, node n1",
	}
	if namespace, name, ok := in.Pod(); !ok || namespace != "agents" || name != "a1" {
		t.Error(namespace, name, ok)
	}
	in.Name = "0fd31c8e5a2b/eth0"
	if namespace, name, ok := in.Pod(); ok {
		t.Errorf("a container without a pod is pod %s/%s", namespace, name)
	}
}

// want compares what a file has with what it should.
func want(t *testing.T, file []byte, others int, packets ...seen) {
	t.Helper()
	got, left, err := readAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(packets, got); diff != "" {
		t.Errorf("packets (-want +got):\n%s", diff)
	}
	if left != others {
		t.Errorf("%d other frames, want %d", left, others)
	}
}

func TestLinkTypes(t *testing.T) {
	ethernet := func(tags string) []byte { return unhex("0200 0000 0001 0200 0000 0002" + tags) }
	for _, test := range []struct {
		name     string
		linkType uint32
		header   []byte
		ip       []byte
		behind   int // bytes of padding
	}{
		{"Ethernet", linkEthernet, ethernet("0800"), datagram(), 0},
		{"Ethernet, padded", linkEthernet, ethernet("0800"), datagram(), 18},
		{"Ethernet, IPv6", linkEthernet, ethernet("86dd"), datagram6(), 4},
		{"Ethernet, VLAN", linkEthernet, ethernet("8100 0064 0800"), datagram(), 0},
		{"Ethernet, QinQ", linkEthernet, ethernet("88a8 0064 8100 0065 86dd"), datagram6(), 0},
		{"Ethernet, old tags", linkEthernet, ethernet("9100 0064 8100 0065 0800"), datagram(), 0},
		{"Ethernet with checksum", linkEthernet | 0x4400_0000, ethernet("0800"), datagram(), 4},
		{"cooked", linkCooked, unhex("0000 0001 0006 0200000000010000 0800"), datagram(), 0},
		{"cooked, VLAN", linkCooked, unhex("0000 0001 0006 0200000000010000 8100 0064 86dd"), datagram6(), 0},
		{"cooked 2", linkCooked2, unhex("0800 0000 00000003 0001 00 06 0200000000010000"), datagram(), 0},
		{"cooked 2, IPv6", linkCooked2, unhex("86dd 0000 00000003 0001 00 06 0200000000010000"), datagram6(), 0},
		{"null", linkNull, unhex("02000000"), datagram(), 0},
		{"null of another machine", linkNull, unhex("0000001e"), datagram6(), 0},
		{"loop", linkLoop, unhex("00000002"), datagram(), 0},
		{"raw", linkRaw, nil, datagram(), 0},
		{"raw, IPv6", linkRaw, nil, datagram6(), 0},
		{"raw of BSD", linkRawBSD, nil, datagram(), 0},
		{"raw of OpenBSD", linkRawOpen, nil, datagram(), 0},
		{"IPv4", linkIPv4, nil, datagram(), 0},
		{"IPv6", linkIPv6, nil, datagram6(), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := join(test.header, test.ip, make([]byte, test.behind))
			want(t, classic(binary.LittleEndian, magicMicro, test.linkType, frame), 0, seen{
				Number: 1, Time: "1970-01-01T00:00:00.000005Z",
				IP: hex.EncodeToString(test.ip), Length: len(test.ip),
			})
		})
	}
}

func TestOtherFrames(t *testing.T) {
	arp := unhex("ffffffffffff 020000000002 0806 0001")
	short := unhex("020000000001 020000000002 08")
	halfTag := unhex("020000000001 020000000002 8100 00")
	headerOnly := unhex("020000000001 020000000002 0800")
	noIP := unhex("020000000001 020000000002 0800 70")
	good := join(headerOnly, datagram())
	want(t, classic(binary.LittleEndian, magicMicro, linkEthernet,
		arp, short, halfTag, headerOnly, noIP, nil, good), 6,
		seen{
			Number: 7, Time: "1970-01-01T00:00:06.000005Z",
			IP: hex.EncodeToString(datagram()), Length: len(datagram()),
		})
}

func TestClassicOrders(t *testing.T) {
	for _, o := range []order{binary.LittleEndian, binary.BigEndian} {
		for magic, stamp := range map[uint32]string{
			magicMicro: "1970-01-01T00:00:00.000005Z", magicNano: "1970-01-01T00:00:00.000000005Z",
		} {
			want(t, classic(o, magic, linkRaw, datagram()), 0, seen{
				Number: 1, Time: stamp, IP: hex.EncodeToString(datagram()), Length: len(datagram()),
			})
		}
	}
}

// A second section may have another order of bytes, and has interfaces of its own.
func TestSections(t *testing.T) {
	raw := hex.EncodeToString(datagram())
	var file []byte
	for _, o := range []order{binary.LittleEndian, binary.BigEndian} {
		flags := string(words(o, 1))
		file = join(
			file, section(o, option(o, sectionProgram, "other 1.0")),
			iface(o, linkRaw, 0, option(o, ifName, "a/pod"), option(o, ifTimeUnit, "\x09"),
				option(o, ifTimeOffset, string(join(words(o, 0), words(o, 0)))), words(o, 0)),
			iface(o, linkRaw, 20, option(o, ifTimeUnit, "\x8a")),
			ngBlock(o, 4, []byte("names, which are left out")),
			ngPacket(o, 0, 1_500_000_007, datagram(), option(o, packetFlags, flags),
				option(o, optComment, "first"), option(o, optComment, "second"), words(o, 0)),
			ngPacket(o, 1, 3<<10|512, datagram()[:20]),
			ngBlock(o, blockOldPacket, o.AppendUint16(o.AppendUint16(nil, 1), 9),
				words(o, 0, 1<<10, 28, 28), datagram()),
		)
	}
	n := 0
	var packets []seen
	for range 2 {
		packets = append(
			packets,
			seen{Number: n + 1, Time: "1970-01-01T00:00:01.500000007Z", IP: raw, Length: 28, Name: "a/pod", Comment: "first", Direction: Inbound},
			seen{Number: n + 2, Time: "1970-01-01T00:00:03.5Z", IP: raw[:40], Length: 28},
			seen{Number: n + 3, Time: "1970-01-01T00:00:01Z", IP: raw, Length: 28},
		)
		n += 3
	}
	want(t, file, 0, packets...)
}

func TestSimplePacket(t *testing.T) {
	o := binary.LittleEndian
	want(t, join(section(o), iface(o, linkRaw, 20), ngBlock(o, blockSimple, words(o, 28), datagram()[:20])), 0,
		seen{Number: 1, IP: hex.EncodeToString(datagram()[:20]), Length: 28})
}

func TestClock(t *testing.T) {
	for _, test := range []struct {
		clock clock
		stamp uint64
		want  string
	}{
		{clock{unit: 6}, 1_000_001, "1970-01-01T00:00:01.000001Z"},
		{clock{unit: 0, offset: -1}, 2, "1970-01-01T00:00:01Z"},
		{clock{unit: 12}, 1_999_999_999_999, "1970-01-01T00:00:01.999999999Z"},
		{clock{unit: 19}, 1 << 63, "1970-01-01T00:00:00.92233720Z"},
		{clock{unit: 0x80 | 63}, 1<<63 | 1<<62, "1970-01-01T00:00:01.5Z"},
	} {
		got := test.clock.time(test.stamp)
		if test.clock.unit == 19 {
			got = got.Truncate(10 * time.Nanosecond)
		}
		expected, err := time.Parse(time.RFC3339Nano, test.want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := got.Sub(expected); diff < 0 || diff > 10*time.Nanosecond {
			t.Errorf("%+v: %s, want %s", test.clock, got.Format(time.RFC3339Nano), test.want)
		}
	}
}

// What nsqueuectl has captured gives the pods back.
func TestOwnCapture(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "own.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	raw := hex.EncodeToString(datagram())
	want(
		t, b, 0,
		seen{
			Number: 1, Time: "2026-11-29T14:00:00.123456789Z", IP: raw, Length: 28,
			Name: "agents/a1", Pod: "agents a1", Direction: Outbound,
			Comment: "verdict: accept, origin mark: 0x00000000, set mark: 0x00000000",
		},
		seen{
			Number: 2, Time: "2026-11-29T14:00:01.123456789Z", IP: raw[:40], Length: 28,
			Name: "fedcba987654/net1", Direction: Inbound,
			Comment: "verdict: drop, origin mark: 0x00000000, set mark: 0x00000000",
		},
	)
}

func TestCapturesOfFlows(t *testing.T) {
	for name, count := range map[string]int{
		"dns01_udp.pcap": 2, "tls03_split_in_name.pcap": 11, "quic01_plain.pcap": 2,
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		packets, others, err := readAll(b)
		if err != nil || others != 0 || len(packets) != count {
			t.Errorf("%s: %d packets, %d others, %v", name, len(packets), others, err)
		}
		for _, p := range packets {
			if p.IP[0] != '4' || p.Length*2 != len(p.IP) {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
}

func TestBadFiles(t *testing.T) {
	o := binary.LittleEndian
	start := join(section(o), iface(o, linkRaw, 0))
	good := classic(o, magicMicro, linkRaw, datagram())
	wrongEnd := ngPacket(o, 0, 0, datagram())
	wrongEnd[len(wrongEnd)-4]++
	for _, test := range []struct {
		name   string
		file   []byte
		offset int64
		want   string
	}{
		{"empty", nil, 0, "neither pcap nor pcapng"},
		{"two bytes", []byte{1, 2}, 0, "ends after 2 of 4"},
		{"text", []byte("no capture at all"), 0, "neither pcap nor pcapng"},
		{"header cut", good[:20], 0, "ends after 16 of 20"},
		{"no link type", good[:4], 0, "ends inside"},
		{"record cut", good[:30], 24, "ends after 6 of 16"},
		{"packet cut", good[:45], 24, "ends after 5 of 28"},
		{"packet missing", good[:40], 24, "ends inside"},
		{"version", join(good[:4], []byte{3}, good[5:]), 0, "version 3 of pcap"},
		{"link type", classic(o, magicMicro, 127, datagram()), 24, "link type 127 is not supported"},
		{"huge packet", join(good[:32], words(o, 1<<30, 1<<30)), 24, "more than 1048576"},
		{"longer than it was", join(good[:32], words(o, 28, 27), datagram()), 24, "28 bytes were captured of a packet of 27"},
		{"magic of a section", join(start[:8], words(o, 1), start[12:]), 0, "byte-order magic 0x00000001"},
		{"version of pcapng", join(start[:12], []byte{2}, start[13:]), 0, "version 2 of pcapng"},
		{"section without length", ngBlock(o, blockSection, words(o, byteOrderMagic), words(o, 1)), 0, "header of a section has 4"},
		{"length no multiple of 4", join(start, words(o, 6, 13)), 48, "a block of 13 bytes"},
		{"length too small", join(start, words(o, 6, 8)), 48, "a block of 8 bytes"},
		{"length too big", join(start, words(o, 6, 1<<30)), 48, "a block of 1073741824 bytes"},
		{"lengths differ", join(start, wrongEnd), 48, "says 61 at its end"},
		{"no such interface", join(start, ngPacket(o, 1, 0, datagram())), 48, "interface 1, and there are 1"},
		{"simple without interface", join(section(o), ngBlock(o, blockSimple, words(o, 0))), 28, "interface 0, and there are 0"},
		{"packet without header", join(start, ngBlock(o, blockPacket, words(o, 0))), 48, "has 4 bytes"},
		{"old one without header", join(start, ngBlock(o, blockOldPacket, words(o, 0))), 48, "has 4 bytes"},
		{"simple without header", join(start, ngBlock(o, blockSimple)), 48, "has 0 bytes"},
		{"interface without header", join(section(o), ngBlock(o, blockInterface)), 28, "has 0 bytes"},
		{"captured behind the block", join(start, ngBlock(o, blockPacket, words(o, 0, 0, 0, 8, 8, 0))), 48, "8 captured bytes do not fit"},
		{"option behind the block", join(start, ngPacket(o, 0, 0, datagram(), []byte{1, 0, 9, 0})), 48, "does not fit"},
		{"unit of time", join(section(o), iface(o, linkRaw, 0, option(o, ifTimeUnit, "\x14"))), 28, "0x14 is too small"},
		{"unit of two bytes", join(section(o), iface(o, linkRaw, 0, option(o, ifTimeUnit, "\x06\x06"))), 28, "of 2 bytes"},
		{"offset of time", join(section(o), iface(o, linkRaw, 0, option(o, ifTimeOffset, "\x06"))), 28, "of 1 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := readAll(test.file)
			var at *Error
			if !errors.As(err, &at) || at.Offset != test.offset || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q at %d", err, test.want, test.offset)
			}
		})
	}
	if _, _, err := readAll([]byte("no capture")); !errors.Is(err, ErrFormat) {
		t.Errorf("%v is not ErrFormat", err)
	}
}

// An error of the file stays: the reader does not go on behind it.
func TestErrorStays(t *testing.T) {
	good := classic(binary.LittleEndian, magicMicro, linkRaw, datagram())
	r, err := NewReader(bytes.NewReader(good[:30]))
	if err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	if _, again := r.Next(); first == nil || !errors.Is(again, first) {
		t.Errorf("%v, then %v", first, again)
	}
}

// Whatever a file has, a reader gives packets that are in it, and ends.
func FuzzReader(f *testing.F) {
	o := binary.LittleEndian
	f.Add(classic(o, magicMicro, linkEthernet, unhex("020000000001 020000000002 8100 0064 0800"), datagram()))
	f.Add(classic(binary.BigEndian, magicNano, linkCooked2, datagram(), datagram6()))
	f.Add(join(section(o), iface(o, linkNull, 0, option(o, ifTimeUnit, "\x09")),
		ngPacket(o, 0, 1, datagram(), option(o, optComment, "x")), ngBlock(o, blockSimple, words(o, 28), datagram())))
	if own, err := os.ReadFile(filepath.Join("testdata", "own.pcapng")); err == nil {
		f.Add(own)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		var at *Error
		for err == nil {
			var p Packet
			if p, err = r.Next(); err != nil {
				break
			}
			p.Interface.Pod()
			if len(p.IP) == 0 || len(p.IP) > p.Length || p.IP[0]>>4 != 4 && p.IP[0]>>4 != 6 ||
				!bytes.Contains(b, p.IP) || p.Offset < 0 || p.Offset >= int64(len(b)) {
				t.Fatalf("%+v", p)
			}
		}
		if !errors.Is(err, io.EOF) && (!errors.As(err, &at) || at.Offset > int64(len(b))) {
			t.Errorf("error %v", err)
		}
	})
}
