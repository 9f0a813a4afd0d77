// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"iter"
	"slices"
	"strings"
	"testing"
)

func TestParseCaptured(t *testing.T) {
	for _, name := range []string{"plain.hex", "post-quantum.hex", "records-100.hex", "upper-case.hex"} {
		var h Hello
		m, _ := new(Joiner).Join(stream(t, name), nil)
		if s := h.Parse(m); s != Complete || string(h.SNI) != "www.blocked.example" {
			t.Errorf("%s: %d, name %q", name, s, h.SNI)
		}
		if h.VersionName() != "1.3" || h.ECH || h.Ciphers.Len() != 13 || h.Signatures.Len() != 10 {
			t.Errorf("%s: version %q, ECH %t, %d ciphers, %d signature algorithms", name,
				h.VersionName(), h.ECH, h.Ciphers.Len(), h.Signatures.Len())
		}
		if got := protocols(&h); !slices.Equal(got, []string{"h2"}) {
			t.Errorf("%s: protocols %q", name, got)
		}
	}
}

func protocols(h *Hello) []string {
	var all []string
	for p := range h.ALPN.All() {
		all = append(all, string(p))
	}
	return all
}

func TestServerName(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Repeat(label+".", 3) + strings.Repeat("b", 61) // 253 bytes
	const malformed = "malformed"
	for name, c := range map[string]struct {
		extensions []byte
		want       string
	}{
		"absent":                    {nil, ""},
		"a name":                    {sni("www.blocked.example"), "www.blocked.example"},
		"upper case":                {sni("WwW.BLOCKED.eXample"), "www.blocked.example"},
		"final dot":                 {sni("www.blocked.example."), "www.blocked.example"},
		"upper case and final dot":  {sni("BLOCKED.EXAMPLE."), "blocked.example"},
		"one label":                 {sni("registry"), "registry"},
		"digits, hyphen, underline": {sni("_a-1.2b.xn--p1ai"), "_a-1.2b.xn--p1ai"},
		"last label of digits":      {sni("web.0"), "web.0"},
		"253 bytes":                 {sni(long), long},
		"253 bytes and final dot":   {sni(long + "."), long},
		"a type that is none":       {sniList(sniEntry(7, "?"), sniEntry(0, "a.example")), "a.example"},

		"empty":                   {sni(""), malformed},
		"a dot":                   {sni("."), malformed},
		"two final dots":          {sni("a.example.."), malformed},
		"dot in front":            {sni(".example"), malformed},
		"two dots":                {sni("a..example"), malformed},
		"254 bytes":               {sni(long + "b"), malformed},
		"256 bytes":               {sni(long + "bbb"), malformed},
		"a label of 64":           {sni(label + "a.example"), malformed},
		"IPv4":                    {sni("192.0.2.1"), malformed},
		"IPv4, short":             {sni("127.1"), malformed},
		"IPv4, one number":        {sni("2130706433"), malformed},
		"IPv6":                    {sni("2001:db8::1"), malformed},
		"IPv6 in brackets":        {sni("[2001:db8::1]"), malformed},
		"with a port":             {sni("a.example:443"), malformed},
		"UTF-8":                   {sni("bücher.example"), malformed},
		"0x80":                    {sni("a\x80.example"), malformed},
		"NUL":                     {sni("a.example\x00.allowed.example"), malformed},
		"CR LF":                   {sni("a.example\r\n{}"), malformed},
		"space":                   {sni("a example"), malformed},
		"quote":                   {sni(`a".example`), malformed},
		"wildcard":                {sni("*.example"), malformed},
		"two names":               {sniList(sniEntry(0, "a.example"), sniEntry(0, "b.example")), malformed},
		"the same name twice":     {sniList(sniEntry(0, "a.example"), sniEntry(0, "a.example")), malformed},
		"two extensions":          {slices.Concat(sni("a.example"), sni("b.example")), malformed},
		"no list":                 {extension(extServerName, nil), malformed},
		"an empty list":           {extension(extServerName, vec16()), malformed},
		"no name of its type":     {sniList(sniEntry(1, "a.example")), malformed},
		"list one byte too long":  {extension(extServerName, append(numbers(13), sniEntry(0, "a.example")...)), malformed},
		"list one byte too short": {extension(extServerName, append(numbers(11), sniEntry(0, "a.example")...)), malformed},
		"name too long":           {sniList(append([]byte{0, 0, 10}, "a.example"...)), malformed},
		"name too short":          {sniList(append([]byte{0, 0, 8}, "a.example"...)), malformed},
		"a type and no more":      {sniList([]byte{0}), malformed},
	} {
		var h Hello
		s := h.Parse(hello([]uint16{0x1301}, c.extensions))
		if c.want == malformed {
			if s != Malformed || h.SNI != nil || h.Ciphers != nil || h.Extensions != nil {
				t.Errorf("%s: %d, name %q", name, s, h.SNI)
			}
		} else if s != Complete || string(h.SNI) != c.want {
			t.Errorf("%s: %d, name %q, want %q", name, s, h.SNI, c.want)
		}
	}
}

// A client hides the name behind ECH, or says that it does: both look the same.
func TestECH(t *testing.T) {
	var h Hello
	for name, content := range map[string][]byte{"outer": fromHex(t, "00 0001 0001 05 0000 0000"), "GREASE": {1, 2, 3}} {
		s := h.Parse(hello([]uint16{0x1301}, sni("outer.example"), extension(extECH, content)))
		if s != Complete || !h.ECH || string(h.SNI) != "outer.example" {
			t.Errorf("%s: %d, ECH %t, name %q", name, s, h.ECH, h.SNI)
		}
	}
	if h.Parse(plain("a.example")); h.ECH {
		t.Error("ECH of the last hello")
	}
}

func TestVersion(t *testing.T) {
	for name, c := range map[string]struct {
		fixed      uint16
		extensions []byte
		want       string
	}{
		"fixed 1.2":            {VersionTLS12, nil, "1.2"},
		"fixed 1.1":            {VersionTLS11, nil, "1.1"},
		"fixed 1.0":            {VersionTLS10, nil, "1.0"},
		"fixed SSL 3.0":        {VersionSSL30, nil, "ssl3.0"},
		"fixed 1.3":            {VersionTLS13, nil, "1.2"},
		"fixed above":          {0x0400, nil, "1.2"},
		"fixed below":          {0x0002, nil, ""},
		"offered, any order":   {VersionTLS12, versions(0x0303, 0x0304, 0x0302), "1.3"},
		"offered, with GREASE": {VersionTLS12, versions(0xfafa, 0x0303), "1.2"},
		"offered, a draft":     {VersionTLS12, versions(0x7f1c, 0x0301), "1.0"},
		"offered, unknown":     {VersionTLS12, versions(0x0a0a), ""},
	} {
		var h Hello
		s := h.Parse(message(append(body(c.fixed, []uint16{0x1301}), vec16(c.extensions...)...)))
		if got := h.VersionName(); s != Complete || got != c.want {
			t.Errorf("%s: %d, %q, want %q", name, s, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	fixed := body(VersionTLS12, []uint16{0x1301})
	with := func(extensions ...[]byte) []byte { return hello([]uint16{0x1301}, extensions...) }
	for name, m := range map[string][]byte{
		"another message":          {2, 0, 0, 0},
		"nothing":                  message(nil),
		"a session of 33 bytes":    message(slices.Concat(make([]byte, 34), vec8(make([]byte, 33)...), vec16(0x13, 1), vec8(0), vec16())),
		"no ciphers":               hello(nil),
		"half a cipher":            message(slices.Concat(make([]byte, 34), vec8(), vec16(0x13, 1, 0x13), vec8(0), vec16())),
		"no compression":           message(slices.Concat(make([]byte, 34), vec8(), vec16(0x13, 1), vec8(), vec16())),
		"bytes at the end":         message(slices.Concat(fixed, vec16(), []byte{0})),
		"half a length":            message(append(slices.Clone(fixed), 0)),
		"extensions too long":      message(append(slices.Clone(fixed), 0, 1)),
		"half an extension":        with([]byte{0, 23, 0}),
		"a lying extension":        with([]byte{0, 23, 0, 1}),
		"two lists of protocols":   with(alpn("h2"), alpn("h2")),
		"two lists of versions":    with(versions(0x0304), versions(0x0304)),
		"two lists of signatures":  with(signatures(0x0403), signatures(0x0403)),
		"ECH twice":                with(extension(extECH, nil), extension(extECH, nil)),
		"no protocols":             with(alpn()),
		"an empty protocol":        with(alpn("h2", "")),
		"a lying protocol":         with(extension(extALPN, vec16(3, 'h', '2'))),
		"a lying list":             with(extension(extALPN, []byte{0, 4, 2, 'h', '2'})),
		"no versions":              with(versions()),
		"half a version":           with(extension(extVersions, vec8(3, 4, 3))),
		"bytes behind versions":    with(extension(extVersions, append(vec8(3, 4), 0))),
		"no signatures":            with(signatures()),
		"half a signature":         with(extension(extSignatures, vec16(4))),
		"bytes behind signatures":  with(extension(extSignatures, append(vec16(4, 3), 0))),
		"versions of another size": with(extension(extVersions, nil)),
	} {
		var h Hello
		if s := h.Parse(m); s != Malformed || h.Ciphers != nil || h.SNI != nil {
			t.Errorf("%s: %d, %v", name, s, h.Ciphers)
		}
	}
}

func TestParseLimit(t *testing.T) {
	if s := new(Hello).Parse([]byte{1, 0, 0x3f, 0xfd}); s != Limit {
		t.Error(s)
	}
}

func TestParseWithoutExtensions(t *testing.T) {
	var h Hello
	if s := h.Parse(message(body(VersionTLS10, []uint16{5, 4}))); s != Complete || h.Version != VersionTLS10 {
		t.Errorf("%d, version %#x", s, h.Version)
	}
	if got := slices.Collect(h.Ciphers.All()); !slices.Equal(got, []uint16{5, 4}) {
		t.Errorf("ciphers %v", got)
	}
}

// Bytes of a stream come in any pieces: over QUIC, without records.
func TestParseEveryLength(t *testing.T) {
	m, _ := new(Joiner).Join(stream(t, "post-quantum.hex"), nil)
	var h Hello
	for n := range len(m) {
		if s := h.Parse(slices.Clone(m[:n])); s != More || h.SNI != nil {
			t.Fatalf("%d after %d of %d bytes", s, n, len(m))
		}
	}
	if s := h.Parse(append(slices.Clone(m), 1, 2, 3)); s != Complete {
		t.Errorf("%d with bytes behind", s)
	}
}

func TestListsEndEarly(t *testing.T) {
	var h Hello
	h.Parse(hello([]uint16{1, 2}, alpn("a", "b"), sni("a.example")))
	cipher, stop := iter.Pull(h.Ciphers.All())
	if v, ok := cipher(); !ok || v != 1 {
		t.Errorf("cipher %d", v)
	}
	stop()
	protocol, stop := iter.Pull(h.ALPN.All())
	if p, ok := protocol(); !ok || string(p) != "a" {
		t.Errorf("protocol %q", p)
	}
	stop()
	ext, stop := iter.Pull2(h.Extensions.All())
	if kind, _, ok := ext(); !ok || kind != extALPN {
		t.Errorf("extension %d", kind)
	}
	stop()
}

func TestParseDoesNotAllocate(t *testing.T) {
	m, _ := new(Joiner).Join(stream(t, "upper-case.hex"), nil)
	var h Hello
	n := testing.AllocsPerRun(100, func() {
		if h.Parse(m) != Complete {
			t.Error("malformed")
		}
		for range h.ALPN.All() {
		}
		for range h.Extensions.All() {
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"plain", "post-quantum", "upper-case"} {
		b.Run(name, func(b *testing.B) {
			m, _ := new(Joiner).Join(stream(b, name+".hex"), nil)
			var h Hello
			b.ReportAllocs()
			for b.Loop() {
				h.Parse(m)
			}
		})
	}
}

func BenchmarkJoinAndParse(b *testing.B) {
	s := stream(b, "plain.hex")
	scratch := make([]byte, 0, MaxStream)
	var h Hello
	b.ReportAllocs()
	for b.Loop() {
		var j Joiner
		m, _ := j.Join(s, scratch)
		h.Parse(m)
	}
}
