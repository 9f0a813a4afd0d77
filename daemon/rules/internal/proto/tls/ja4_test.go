// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The fingerprints were written down by hand. The comment of each has the text whose
// SHA-256 is its second part, and below that the text of the third part. What stands
// there is what this prints:
//
//	printf %s TEXT | sha256sum | cut -c1-12
//
// A text has the numbers in their order, in 4 digits with commas between, without
// GREASE. That of the extensions is without 0000 and 0010, and has the signature
// algorithms behind _ in the client's order. The first part counts 0000 and 0010.
func TestJA4(t *testing.T) {
	one := []uint16{0x1301}
	for name, c := range map[string]struct {
		message []byte
		over    Transport
		want    string
	}{
		// c02b … 1302 of the file:
		// 1301,1302,1303,c009,c00a,c013,c014,c02b,c02c,c02f,c030,cca8,cca9
		// 0000 000b ff01 0017 0012 0005 000a 000d 0032 0010 002b 0033 are 12:
		// 0005,000a,000b,000d,0012,0017,002b,0032,0033,ff01_0804,0403,0807,0805,0806,0401,0501,0601,0503,0603
		"captured": {captured(t), TCP, "t13d1312h2_f57a46bbacb6_ab7e3b40a677"},
		// The list in the description of the method:
		// 002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9
		// 0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_0403,0804,0401,0503,0805,0501,0806,0601
		"published": {published(), TCP, "t13d1516h2_8daaf6152771_e5627efa2ab1"},
		// 1301,1302,1303
		// 000a,000d,002b,0033,0039_0403,0804
		"over QUIC, without a name": {
			hello([]uint16{0x1303, 0x1301, 0x1302}, alpn("h3"), versions(0x0304),
				extension(0x0039, nil), extension(0x000a, nil), signatures(0x0403, 0x0804), extension(0x0033, nil)),
			QUIC, "q13i0306h3_55b375c5d22e_d28fa0964799",
		},
		// 0004,0005 and no extension
		"without extensions": {message(body(VersionTLS10, []uint16{5, 4})), TCP, "t10i020000_6e254592683c_000000000000"},
		// 1301
		// 0017
		"without signature algorithms": {
			hello(one, extension(0x0017, nil), sni("a.example")), TCP,
			"t12d010200_0f2cb44170f4_1ca028f07214",
		},
		// 1301, and of the extensions nothing is left
		"name and protocols only": {
			hello(one, sni("a.example"), alpn("http/1.1", "h2")), TCP,
			"t12d0102h1_0f2cb44170f4_000000000000",
		},
		// 00ff,1301,5600,fe00: what is no cipher counts as well
		// 000d,002b_0403
		"GREASE in each list": {
			hello([]uint16{0x4a4a, 0xfe00, 0x00ff, 0x1301, 0x5600}, extension(0x3a3a, nil),
				versions(0x0a0a, 0x0303, 0x0302), signatures(0x2a2a, 0x0403), extension(0xfafa, []byte{0})), TCP,
			"t12i040200_130ea533afe5_3953dc75acc4",
		},
		// 1301
		// 000d, without the _
		"only GREASE signatures": {hello(one, signatures(0x2a2a)), TCP, "t12i010100_0f2cb44170f4_06540eb5c95f"},
		// No cipher that is not GREASE
		"only GREASE ciphers": {hello([]uint16{0x1a1a}), TCP, "t12i000000_000000000000_000000000000"},
	} {
		var h Hello
		if s := h.Parse(c.message); s != Complete {
			t.Fatalf("%s: %d", name, s)
		}
		if got := string(h.AppendJA4(nil, c.over)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func captured(tb testing.TB) []byte {
	tb.Helper()
	m, s := new(Joiner).Join(stream(tb, "plain.hex"), nil)
	if s != Complete {
		tb.Fatal(s)
	}
	return m
}

func TestJA4Protocol(t *testing.T) {
	for protocol, want := range map[string]string{
		"h2":               "h2",
		"http/1.1":         "h1",
		"http/1.0":         "h0",
		"h":                "hh",
		"DoT":              "DT",
		"\xab":             "ab", // ab
		"\xab\xcd":         "ad", // abcd
		"0\xab":            "3b", // 30ab
		"01\xab\xcd":       "3d", // 3031abcd
		"0\xab\xcd1":       "01", // its ends are digits
		"h2 ":              "60", // 683220
		"/":                "2f", // 2f
		"\x0a\x0a":         "0a", // 0a0a
		"spdy/3.1\x00x":    "sx",
		"[":                "5b", // beside the letters
		"@Z":               "4a", // 405a
		"a\x60":            "60", // 6160
		"{":                "7b", // 7b
		":":                "3a", // beside the digits
		"long/and/longer2": "l2",
	} {
		var h Hello
		h.Parse(hello([]uint16{0x1301}, alpn(protocol)))
		if got := string(h.AppendJA4(nil, TCP)[8:10]); got != want {
			t.Errorf("%q: %q, want %q", protocol, got, want)
		}
	}
}

func TestJA4Version(t *testing.T) {
	for want, m := range map[string][]byte{
		"13": hello([]uint16{1}, versions(0x0303, 0x0304)),
		"12": hello([]uint16{1}),
		"11": message(body(VersionTLS11, []uint16{1})),
		"10": hello([]uint16{1}, versions(0x0301, 0xaaaa)),
		"s3": message(body(VersionSSL30, []uint16{1})),
		"s2": message(body(0x0002, []uint16{1})),
		"00": hello([]uint16{1}, versions(0x0304, 0x7f1c)), // a draft, which is higher
	} {
		var h Hello
		h.Parse(m)
		if got := string(h.AppendJA4(nil, TCP)[1:3]); got != want {
			t.Errorf("version %q, want %q", got, want)
		}
	}
}

// Counts have two digits. The hashes are of all that there is.
func TestJA4Long(t *testing.T) {
	var ciphers []uint16
	var extensions [][]byte
	var text []string
	for v := range uint16(1000) {
		ciphers = append(ciphers, 0xc000-v)
		extensions = append(extensions, extension(0xc000-v, nil))
		if !isGREASE(0xc000 - v) {
			text = append(text, fmt.Sprintf("%04x", 0xc000-v))
		}
	}
	slices.Sort(text)
	sum := sha256.Sum256([]byte(strings.Join(text, ",")))
	hash := hex.EncodeToString(sum[:6])
	var h Hello
	if s := h.Parse(hello(ciphers, extensions...)); s != Complete {
		t.Fatal(s)
	}
	if got, want := string(h.AppendJA4(nil, TCP)), "t12i999900_"+hash+"_"+hash; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestJA4OfNothing(t *testing.T) {
	if got := new(Hello).AppendJA4([]byte("x"), TCP); string(got) != "x" {
		t.Errorf("%q", got)
	}
}

func TestJA4DoesNotAllocate(t *testing.T) {
	var h Hello
	h.Parse(captured(t))
	b := make([]byte, 0, ja4Len)
	if n := testing.AllocsPerRun(100, func() { b = h.AppendJA4(b[:0], TCP) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJA4(b *testing.B) {
	var h Hello
	h.Parse(captured(b))
	out := make([]byte, 0, ja4Len)
	b.ReportAllocs()
	for b.Loop() {
		out = h.AppendJA4(out[:0], TCP)
	}
}
