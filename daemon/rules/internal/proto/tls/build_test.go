// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fromHex ignores white space, and what is behind '#' on a line.
func fromHex(tb testing.TB, text string) []byte {
	tb.Helper()
	var all strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		all.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(all.String())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// stream returns what a client sent, from a file of testdata.
func stream(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return fromHex(tb, string(text))
}

func vec8(b ...byte) []byte { return append([]byte{byte(len(b))}, b...) }

func vec16(b ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func numbers(list ...uint16) []byte {
	var b []byte
	for _, v := range list {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func extension(kind uint16, body []byte) []byte {
	return append(numbers(kind), vec16(body...)...)
}

// sni is the extension with one name.
func sni(name string) []byte { return sniList(sniEntry(0, name)) }

func sniEntry(kind byte, name string) []byte {
	return append([]byte{kind}, vec16([]byte(name)...)...)
}

func sniList(entries ...[]byte) []byte {
	return extension(extServerName, vec16(slices.Concat(entries...)...))
}

func alpn(names ...string) []byte {
	var list []byte
	for _, name := range names {
		list = append(list, vec8([]byte(name)...)...)
	}
	return extension(extALPN, vec16(list...))
}

func versions(list ...uint16) []byte {
	return extension(extVersions, vec8(numbers(list...)...))
}

func signatures(list ...uint16) []byte {
	return extension(extSignatures, vec16(numbers(list...)...))
}

// hello is a ClientHello of TLS 1.2 with these ciphers and extensions.
func hello(ciphers []uint16, extensions ...[]byte) []byte {
	return message(slices.Concat(body(VersionTLS12, ciphers), vec16(slices.Concat(extensions...)...)))
}

// body is the part of a ClientHello before its extensions.
func body(version uint16, ciphers []uint16) []byte {
	return slices.Concat(numbers(version), make([]byte, 32), vec8(make([]byte, 32)...),
		vec16(numbers(ciphers...)...), vec8(0))
}

func message(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(1<<24|len(body))), body...)
}

// records cuts a message into records of size bytes.
func records(b []byte, size int) []byte {
	var all []byte
	for part := range slices.Chunk(b, size) {
		all = append(all, rec(recordHandshake, part...)...)
	}
	return all
}

func rec(kind byte, body ...byte) []byte {
	return slices.Concat([]byte{kind, 3, 1}, vec16(body...))
}

// plain is a ClientHello for a name.
func plain(name string) []byte { return hello([]uint16{0x1301}, sni(name)) }

// published is the ClientHello of the example with which JA4 was published, with
// GREASE added.
func published() []byte {
	ciphers := []uint16{
		0x6a6a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
		0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
	}
	extensions := [][]byte{extension(0xbaba, nil)}
	for _, kind := range []uint16{
		0x001b, 0, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
		0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
	} {
		e := extension(kind, nil)
		switch kind {
		case extServerName:
			e = sni("a.example")
		case extALPN:
			e = alpn("h2", "http/1.1")
		case extVersions:
			e = versions(0xeaea, 0x0304, 0x0303)
		case extSignatures:
			e = signatures(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
		}
		extensions = append(extensions, e)
	}
	return hello(ciphers, extensions...)
}
