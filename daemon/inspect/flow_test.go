// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func packet(tb testing.TB, hexBytes string) *Packet {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(hexBytes, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return &Packet{Payload: b, Length: len(b)}
}

const (
	ipv4UDP = "45000020 00010000 40110000 0a0a0001 0a0a0002" + "04d2 0050 000c 0000 64617461"
	// Options (router alert) before TCP.
	ipv4TCPOptions = "46000028 00010000 40060000 0a0a0001 0a0a0002 94040000" + "1f90 0050 00000000"
	ipv4Later      = "45000020 00010002 40110000 0a0a0001 0a0a0002" + "deadbeefdeadbeefdeadbeef"
	ipv4ICMP       = "4500001c 00010000 40010000 0a0a0001 0a0a0002" + "0800 f7ff 0000 0000"
	v6addrs        = "fd000000000000000000000000000001 fd000000000000000000000000000002"
	// Hop-by-hop, then a first fragment, then UDP.
	ipv6FirstFragment = "60000000 0020 00 40" + v6addrs +
		"2c00 0502 0000 0100" + "1100 0001 00000001" + "04d2 0050 0010 0000 6461746164617461"
	ipv6LaterFragment = "60000000 0010 2c 40" + v6addrs + "1100 0009 00000001" + "6461746164617461"
	ipv6AH            = "60000000 0014 33 40" + v6addrs + "0601 0000 00000000 00000000" + "0016 c001 00000000"
)

func TestFlow(t *testing.T) {
	v4 := [2]netip.Addr{netip.MustParseAddr("10.10.0.1"), netip.MustParseAddr("10.10.0.2")}
	v6 := [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}
	tests := []struct {
		name     string
		bytes    string
		addrs    [2]netip.Addr
		proto    uint8
		ports    [2]uint16
		fragment bool
	}{
		{"ipv4 udp", ipv4UDP, v4, ProtoUDP, [2]uint16{1234, 80}, false},
		{"ipv4 tcp behind options", ipv4TCPOptions, v4, ProtoTCP, [2]uint16{8080, 80}, false},
		{"ipv4 later fragment", ipv4Later, v4, ProtoUDP, [2]uint16{}, true},
		{"ipv4 icmp", ipv4ICMP, v4, ProtoICMP, [2]uint16{}, false},
		{"ipv6 first fragment", ipv6FirstFragment, v6, ProtoUDP, [2]uint16{1234, 80}, false},
		{"ipv6 later fragment", ipv6LaterFragment, v6, ProtoUDP, [2]uint16{}, true},
		{"ipv6 authentication header", ipv6AH, v6, ProtoTCP, [2]uint16{22, 49153}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, ok := packet(t, tt.bytes).Flow()
			if !ok {
				t.Fatal("not understood")
			}
			if f.Source != tt.addrs[0] || f.Destination != tt.addrs[1] {
				t.Errorf("addresses %s -> %s, want %v", f.Source, f.Destination, tt.addrs)
			}
			if f.Protocol != tt.proto || f.Fragment != tt.fragment {
				t.Errorf("protocol %d, fragment %t, want %d, %t", f.Protocol, f.Fragment, tt.proto, tt.fragment)
			}
			if got := [2]uint16{f.SourcePort, f.DestinationPort}; got != tt.ports {
				t.Errorf("ports %v, want %v", got, tt.ports)
			}
		})
	}
}

// A packet cut anywhere in its headers is refused; after them, it is the same
// flow at every length.
func TestFlowTruncated(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes   string
		headers int // up to and including the ports
	}{
		"ipv4 udp":            {ipv4UDP, 24},
		"ipv4 options":        {ipv4TCPOptions, 28},
		"ipv6 first fragment": {ipv6FirstFragment, 60},
		"ipv6 AH":             {ipv6AH, 56},
	} {
		whole := packet(t, tt.bytes)
		want, _ := whole.Flow()
		for n := range len(whole.Payload) {
			f, ok := (&Packet{Payload: whole.Payload[:n]}).Flow()
			if ok != (n >= tt.headers) {
				t.Errorf("%s cut at %d: understood %t", name, n, ok)
			}
			if ok && (f.SourcePort != want.SourcePort || f.Protocol != want.Protocol) {
				t.Errorf("%s cut at %d: another flow", name, n)
			}
		}
	}
}

func TestFlowEndlessExtensions(t *testing.T) {
	b := packet(t, "60000000 0100 3c 40"+v6addrs+strings.Repeat("3c00 0000 0000 0000", 32))
	if _, ok := b.Flow(); ok {
		t.Error("a chain of 32 extension headers was followed to its end")
	}
}

func TestFlowDoesNotAllocate(t *testing.T) {
	p := packet(t, ipv6FirstFragment)
	if n := testing.AllocsPerRun(100, func() { p.Flow() }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func TestApplyMark(t *testing.T) {
	v := Verdict{Mark: 0xffffffff, MarkMask: 0xff00ff00}
	if got := v.ApplyMark(0x00000042, 0xff000000); got != 0xff000042 {
		t.Errorf("mark %#x", got)
	}
}

func FuzzFlow(f *testing.F) {
	for _, s := range []string{ipv4UDP, ipv4TCPOptions, ipv4Later, ipv4ICMP, ipv6FirstFragment, ipv6LaterFragment, ipv6AH} {
		f.Add(packet(f, s).Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, ok := (&Packet{Payload: b}).Flow()
		if !ok {
			return
		}
		if !flow.Source.IsValid() || flow.Source.Is4() != flow.Destination.Is4() {
			t.Errorf("addresses %s and %s", flow.Source, flow.Destination)
		}
		if len(flow.Transport) > len(b)-ipv4HeaderLen {
			t.Errorf("transport of %d bytes in a packet of %d", len(flow.Transport), len(b))
		}
	})
}
