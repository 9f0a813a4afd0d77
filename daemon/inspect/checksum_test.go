// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"slices"
	"testing"
)

// The header is the textbook's example of RFC 1071's algorithm.
func TestFixIPv4Header(t *testing.T) {
	const header = "4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7"
	want := packet(t, header).Payload
	got := slices.Concat(want, make([]byte, 0x73-len(want)))
	got[ipv4Checksum], got[ipv4Checksum+1] = 0xde, 0xad
	if !FixChecksums(got) || !bytes.Equal(got[:len(want)], want) {
		t.Errorf("%x, want %x", got[:len(want)], want)
	}
}

func TestFixChecksumsRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":        "",
		"no IP":          "0000 0000",
		"later fragment": ipv4Later,
		"cut transport":  ipv4UDP[:len("45000020 00010000 40110000 0a0a0001 0a0a0002")+9],
	} {
		if FixChecksums(packet(t, s).Payload) {
			t.Errorf("%s: fixed", name)
		}
	}
}

// A packet with right checksums sums up to zero, whatever its content.
func FuzzFixChecksums(f *testing.F) {
	for _, s := range []string{ipv4UDP, ipv4TCPOptions, ipv4ICMP, ipv6FirstFragment, ipv6AH} {
		f.Add(packet(f, s).Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !FixChecksums(b) {
			return
		}
		flow, ok := (&Packet{Payload: b}).Flow()
		if !ok {
			t.Fatal("fixed a packet that is none")
		}
		if header := b[:len(b)-len(flow.Transport)]; flow.Source.Is4() && fold(sum(0, header)) != 0 {
			t.Errorf("IPv4 header sums up to %#x", fold(sum(0, header)))
		}
		switch flow.Protocol {
		case ProtoTCP, ProtoUDP, ProtoICMPv6:
			if s := fold(sum(pseudoHeader(&flow), flow.Transport)); s != 0 {
				t.Errorf("transport sums up to %#x", s)
			}
		case ProtoICMP:
			if s := fold(sum(0, flow.Transport)); s != 0 {
				t.Errorf("transport sums up to %#x", s)
			}
		}
	})
}
