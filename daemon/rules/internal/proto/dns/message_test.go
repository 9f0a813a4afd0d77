// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const opt = "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"

func TestParse(t *testing.T) {
	www := wire("www.blocked.example")
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
		err   error
	}{
		{"plain", query("www.blocked.example"), "www.blocked.example A", nil},
		{"upper case", query("wWw.BloCKed.eXample"), "www.blocked.example A", nil},
		{"second question", append(header(0, 2), question(wire("a.example"), TypeA)+question(www, 65)...), "a.example A, www.blocked.example HTTPS", nil},
		{"compressed question", append(header(0, 2), question(wire("blocked.example"), TypeA)+question("\x03www\xc0\x0c", TypeA)...), "blocked.example A, www.blocked.example A", nil},
		{"zone transfer", append(header(0, 1), question(wire("blocked.example"), 252)...), "blocked.example AXFR", nil},
		{"unknown type", append(header(0, 1), question(www, 65280)...), "www.blocked.example TYPE65280", nil},
		{"root", append(header(0, 1), question("\x00", 2)...), " NS", nil},
		{"EDNS", append(header(0, 1, 0, 0, 1), question(www, TypeA)+opt...), "www.blocked.example A", nil},
		{"no question", header(0), "", nil},
		{"dot and backslash in a label", append(header(0, 1), question("\x05a.b\\c\x07example\x00", TypeA)...), `a\.b\\c.example A`, nil},
		{"bytes for a log", append(header(0, 1), question("\x07\r\n\x00\"\xff b\x00", TypeA)...), `\013\010\000"\255\032b A`, nil},

		{"nothing", nil, "", ErrShort},
		{"half a header", header(0)[:11], "", ErrShort},
		{"no name", header(0, 1), "", ErrShort},
		{"no class", query("a.example")[:25], "", ErrShort},
		{"pointer to itself", append(header(0, 1), question("\xc0\x0c", TypeA)...), "", ErrMalformed},
		{"pointer to its labels", append(header(0, 1), question("\x01a\xc0\x0c", TypeA)...), "", ErrMalformed},
		{"pointer forward", append(header(0, 1), question("\xc0\x12", TypeA)+www...), "", ErrMalformed},
		{"pointer into the header", append(header(0, 1), question("\xc0\x04", TypeA)...), "", ErrMalformed},
		{"half a pointer", append(header(0, 1), 0xc0), "", ErrShort},
		{"loop of two", append(header(0, 2), question(wire("a"), TypeA)+question("\x01b\xc0\x15", TypeA)...), "a A", ErrMalformed},
		{"label type 01", append(header(0, 1), question("\x41a\x00", TypeA)...), "", ErrMalformed},
		{"label type 10", append(header(0, 1), question("\x81a\x00", TypeA)...), "", ErrMalformed},
		{"long name", append(header(0, 1), question(wire(strings.Repeat("a.", 127)), TypeA)...), strings.TrimSuffix(strings.Repeat("a.", 127), ".") + " A", nil},
		{"too long a name", append(header(0, 1), question(wire(strings.Repeat("a.", 128)), TypeA)...), "", ErrMalformed},
		{"too long by a pointer", append(header(0, 2), question(wire(strings.Repeat("a.", 126)), TypeA)+question("\x02bb\xc0\x0c", TypeA)...), strings.TrimSuffix(strings.Repeat("a.", 126), ".") + " A", ErrMalformed},
		{"label of 63", append(header(0, 1), question(wire(strings.Repeat("a", 63)), TypeA)...), strings.Repeat("a", 63) + " A", nil},
		{"label of 64", append(header(0, 1), question(wire(strings.Repeat("a", 64)), TypeA)...), "", ErrMalformed},
		{"pointer to a pointer", append(header(0, 3), question("\x01a\x00", TypeA)+question("\xc0\x0c", TypeA)+question("\xc0\x13", TypeA)...), "a A, a A, a A", nil},
		{"incremental transfer", append(header(0, 1, 0, 1), question(wire("blocked.example"), 251)+answer("\xc0\x0c", 6, 0, "\x00\x00")...), "blocked.example IXFR", nil},
		{"EDNS of 1,300 bytes", append(header(0, 1, 0, 0, 1), question(www, TypeA)+answer("\x00", TypeOPT, 0, "\x00\x0c\x05\x10"+strings.Repeat("\x00", 1296))...), "www.blocked.example A", nil},
		{"owner points to itself", append(header(0, 1, 0, 0, 1), question(www, TypeA)+answer("\xc0\x25", TypeA, 0, "")...), "www.blocked.example A", ErrMalformed},
		{"owner points to its labels", append(header(0, 1, 0, 0, 1), question(www, TypeA)+answer("\x01a\xc0\x25", TypeA, 0, "")...), "www.blocked.example A", ErrMalformed},
		{"owner points forward", append(header(0, 1, 0, 0, 1), question(www, TypeA)+answer("\xc0\x31", TypeA, 0, "\x00")...), "www.blocked.example A", ErrMalformed},
		{"owner points into the header", append(header(0, 1, 0, 0, 1), question(www, TypeA)+answer("\xc0\x0b", TypeA, 0, "")...), "www.blocked.example A", ErrMalformed},
		{"256 records", append(header(0, 1, 0, 0, 256), question(www, TypeA)+strings.Repeat(answer("\x00", TypeA, 0, ""), 256)...), "www.blocked.example A", nil},
		{"bytes after the message", append(query("a.example"), 0), "a.example A", ErrMalformed},
		{"second question cut", append(header(0, 2), question(www, TypeA)...), "www.blocked.example A", ErrShort},
		{"record cut", append(header(0, 1, 0, 0, 1), question(www, TypeA)+opt[:8]...), "www.blocked.example A", ErrShort},
		{"two OPT", append(header(0, 1, 0, 0, 2), question(www, TypeA)+opt+opt...), "www.blocked.example A", ErrMalformed},
		{"OPT as an answer", append(header(0, 1, 1), question(www, TypeA)+opt...), "www.blocked.example A", ErrMalformed},
		{"label over its pointer", overlap(), `\016a A, a\000\000\001\000\001\192\013\000\001\000\001\000\000)\004 A`, nil},
		{"owner is too long", append(header(0, 0, 1), strings.Repeat("\x01a", 130)...), "", ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var m Message
			if err := m.Parse(slices.Clip(tc.bytes)); !errors.Is(err, tc.err) {
				t.Errorf("%v, want %v", err, tc.err)
			}
			if got := names(&m); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestTooManyQuestions(t *testing.T) {
	b := append(header(0, MaxQuestions+1), strings.Repeat(question(wire("a"), TypeA), MaxQuestions+1)...)
	var m Message
	if err := m.Parse(b); !errors.Is(err, ErrLimit) || len(m.Questions) != MaxQuestions {
		t.Error(err, len(m.Questions))
	}
}

func TestHeader(t *testing.T) {
	var m Message
	b := append(header(0x8000|5<<11|0x0200|3, 1, 0, 0, 1), question(wire("a"), TypeA)...)
	b = append(b, "\x00\x00\x29\x10\x00\x01\x00\x00\x00\x00\x00"...)
	if err := m.Parse(b); err != nil {
		t.Fatal(err)
	}
	if m.ID != 7 || !m.Response || m.Opcode != 5 || !m.Truncated || m.RCode != 0x13 {
		t.Errorf("%+v", m)
	}
	if !m.EDNS || m.UDPSize != 4096 {
		t.Errorf("EDNS %v, %d", m.EDNS, m.UDPSize)
	}
}

// No cut of a message reads beyond it, and what is before the cut is found.
func TestCut(t *testing.T) {
	b := append(header(0x8000, 1, 1), question(wire("www.blocked.example"), TypeA)...)
	whole := len(b)
	b = append(b, answer("\xc0\x0c", TypeA, 60, "\x01\x02\x03\x04")...)
	var m Message
	var r Resolution
	for n := range len(b) {
		if err := m.Parse(b[:n:n]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if found := len(m.Questions) == 1; found != (n >= whole) {
			t.Errorf("%d bytes: %q", n, names(&m))
		}
		if err := m.Resolve(0, &r); err != nil || len(r.Addrs) != 0 {
			t.Errorf("%d bytes: %v, %v", n, r.Addrs, err)
		}
	}
}

// A key is the same for a query and its answer, whatever the case of the name.
func TestKey(t *testing.T) {
	var a, b Message
	if a.Parse(query("a.example")) != nil || b.Parse(query("A.exAMPle")) != nil {
		t.Fatal("malformed")
	}
	if string(a.Key(nil)) != string(b.Key(nil)) {
		t.Error("case matters")
	}
	if b.Parse(query("b.example")) != nil || string(a.Key(nil)) == string(b.Key(nil)) {
		t.Error("the name does not matter")
	}
}

func TestRecognise(t *testing.T) {
	q := query("www.blocked.example")
	checkRecognise(t, "message", Recognise, q, headerLen)
	checkRecognise(t, "stream", RecogniseStream, framed(q), prefixLen+headerLen)
	if got := Recognise(header(0, 1, 0, 0, 256)); got != Yes {
		t.Errorf("many records: %d", got)
	}
	for _, other := range []string{
		"GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", string(header(0x8000, 1)), string(header(0)), string(header(0, 300)),
		string(header(0, 1, 0, 0, 6144)),
	} {
		if got := RecogniseStream([]byte("\x00\x20" + other)); got != No {
			t.Errorf("%q: %d", other, got)
		}
	}
	for _, other := range []string{
		"\x00\x0b\x00", // shorter than a header
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // TLS
	} {
		if got := RecogniseStream([]byte(other)); got != No {
			t.Errorf("%q: %d", other, got)
		}
	}
}

// checkRecognise checks that bytes are recognised with the first n of them.
func checkRecognise(t *testing.T, name string, f func([]byte) Answer, b []byte, n int) {
	t.Helper()
	for i := range b {
		want := Undecided
		if i >= n {
			want = Yes
		}
		if got := f(b[:i]); got != want {
			t.Errorf("%s of %d bytes: %d, want %d", name, i, got, want)
		}
	}
}

func TestTypeName(t *testing.T) {
	for kind, want := range map[uint16]string{
		0: "TYPE0", 1: "A", 3: "TYPE3", 28: "AAAA", 65: "HTTPS", 255: "ANY", 257: "CAA", 258: "TYPE258", 65535: "TYPE65535",
	} {
		if got := TypeName(kind); got != want || string(AppendTypeName(nil, kind)) != want {
			t.Errorf("%d: %s, want %s", kind, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = TypeName(65) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTypeName(b *testing.B) {
	for b.Loop() {
		_ = TypeName(65)
	}
}

func TestParseAllocates(t *testing.T) {
	b := append(header(0, 2), question(wire(strings.Repeat("a", 63)+".example"), TypeA)+question("\x03WWW\xc0\x0c", TypeAAAA)...)
	var m Message
	if m.Parse(b) != nil {
		t.Fatal("malformed")
	}
	if n := testing.AllocsPerRun(100, func() { _ = m.Parse(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	var m Message
	for name, bytes := range map[string][]byte{
		"query": query("www.packages.example.org"),
		"edns":  append(header(0, 1, 0, 0, 1), question(wire("www.packages.example.org"), TypeA)+opt...),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Parse(bytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
