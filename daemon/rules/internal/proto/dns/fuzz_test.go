// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func seeds(f *testing.F) {
	f.Helper()
	f.Add(query("www.blocked.example"))
	f.Add(append(header(0, 2), question(wire("blocked.example"), TypeA)+question("\x03www\xc0\x0c", TypeA)...))
	f.Add(append(header(0, 1, 0, 0, 1), question(wire("a"), TypeA)+opt...))
	f.Add(reply(0, answer(asked, TypeCNAME, 30, wire("b.example")), answer(wire("b.example"), TypeA, 60, addr4)))
	f.Add(reply(0x0200, answer(asked, TypeAAAA, 30, addr6), answer(asked, TypeA, 30, addr4)[:5]))
	f.Add(append(header(0, 1), question("\xc0\x0c", TypeA)...))
	f.Add(overlap())
	// With 0x20 and over TCP, as clients send it.
	f.Add(decode(f, "0007 0100 0001 0000 0000 0000 03 775777 07 426c6f434b6564 07 6558616d706c65 00 0001 0001"))
	f.Add(decode(f, "0025 0007 0100 0001 0000 0000 0000 03 777777 07 626c6f636b6564 07 6578616d706c65 00 0001 0001"))
}

// What Parse takes, the library of the Go team takes too, with the same meaning.
// That library has no room for some names that are none of hosts.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		var r Resolution
		err := m.Parse(slices.Clip(b))
		for i := range max(1, len(m.Questions)) {
			_ = m.Resolve(i, &r)
			checkResolution(t, &r)
		}
		for _, q := range m.Questions {
			checkName(t, q.Name)
		}
		if err == nil {
			compare(t, b, &m)
		}
	})
}

func compare(t *testing.T, b []byte, m *Message) {
	t.Helper()
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.ID != m.ID || h.Response != m.Response || h.Truncated != m.Truncated ||
		uint16(h.RCode) != m.RCode&0xf || uint8(h.OpCode) != m.Opcode {
		t.Errorf("%+v, want %+v", m, h)
	}
	for i, q := range m.Questions {
		theirs, err := p.Question()
		if err != nil {
			if strings.Contains(string(q.Name), `\`) || strings.Contains(err.Error(), "pointers") {
				return
			}
			t.Fatalf("question %d: %v", i, err)
		}
		name := strings.TrimSuffix(theirs.Name.String(), ".")
		if plain(name) && string(q.Name) != strings.ToLower(name) ||
			uint16(theirs.Type) != q.Type || uint16(theirs.Class) != q.Class {
			t.Errorf("question %d: %+v, want %+v", i, q, theirs)
		}
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		t.Errorf("more questions: %v", err)
	}
}

func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' })
}

func checkResolution(t *testing.T, r *Resolution) {
	t.Helper()
	if len(r.Addrs) > MaxAddrs || len(r.Names) > MaxNames || len(r.Addrs) > 0 && len(r.Names) == 0 {
		t.Errorf("%d names, %d addresses", len(r.Names), len(r.Addrs))
	}
	for i, name := range r.Names {
		checkName(t, name)
		for _, other := range r.Names[:i] {
			if bytes.Equal(name, other) {
				t.Errorf("%q twice", name)
			}
		}
	}
}

func checkName(t *testing.T, name []byte) {
	t.Helper()
	if len(name) > 4*maxName || !plain(strings.ReplaceAll(string(name), `\`, "")) ||
		string(name) != strings.ToLower(string(name)) {
		t.Errorf("name %q", name)
	}
}

// Segments do not matter, as long as a message fits into the buffer.
func FuzzStream(f *testing.F) {
	f.Add(framed(query("www.allowed.example"), query("www.blocked.example")), uint8(5))
	f.Add(framed(nil, []byte{1}), uint8(1))
	f.Add([]byte{0xff, 0xff, 0, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		whole := Stream{Buffer: make([]byte, 0, 1<<16)}
		parts := Stream{Buffer: make([]byte, 0, 1<<16)}
		small := Stream{Buffer: make([]byte, 0, 40)}
		want, _ := feed(&whole, b, max(1, len(b)))
		got, _ := feed(&parts, b, int(size)+1)
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		_, _ = feed(&small, b, int(size)+1)
	})
}
