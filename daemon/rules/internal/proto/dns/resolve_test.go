// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	addr4  = "\xc6\x33\x64\x01"
	addr6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" + addr4
	asked  = "\xc0\x0c" // the name of the question
)

// reply is an answer about a.example.
func reply(flags uint16, answers ...string) []byte {
	b := append(header(0x8000|flags, 1, uint16(len(answers))), question(wire("a.example"), TypeA)...)
	return append(b, strings.Join(answers, "")...)
}

func TestResolve(t *testing.T) {
	alias := func(from, to string, ttl uint32) string { return answer(from, TypeCNAME, ttl, wire(to)) }
	host := func(name string, ttl uint32) string { return answer(wire(name), TypeA, ttl, addr4) }
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
		err   error
	}{
		{"address", reply(0, answer(asked, TypeA, 60, addr4)), "[a.example] [198.51.100.1] 60 false", nil},
		{"IPv6", reply(0, answer(asked, TypeAAAA, 60, addr6)), "[a.example] [2001:db8::1] 60 false", nil},
		{"IPv4 in IPv6", reply(0, answer(asked, TypeAAAA, 60, mapped)), "[a.example] [198.51.100.1] 60 false", nil},
		{"upper case", reply(0, host("A.Example", 60)), "[a.example] [198.51.100.1] 60 false", nil},
		{"TTL of zero", reply(0, answer(asked, TypeA, 0, addr4)), "[a.example] [198.51.100.1] 0 false", nil},
		{"negative TTL", reply(0, answer(asked, TypeA, 1<<31, addr4)), "[a.example] [198.51.100.1] 0 false", nil},
		{"chain", reply(0, alias(asked, "B.example", 30), alias(wire("b.example"), "c.example", 90), host("c.example", 60)), "[a.example b.example c.example] [198.51.100.1] 30 false", nil},
		{"chain backwards", reply(0, host("c.example", 60), alias(wire("b.example"), "c.example", 90), alias(asked, "b.example", 70)), "[a.example b.example c.example] [198.51.100.1] 60 false", nil},
		{"chain in a circle", reply(0, alias(asked, "b.example", 30), alias(wire("b.example"), "a.example", 90)), "[a.example b.example] [] 0 false", nil},
		{"a name that nobody asked for", reply(0, host("other.example", 60), answer(asked, TypeA, 90, addr4)), "[a.example] [198.51.100.1] 90 false", nil},
		{"alias of another name", reply(0, alias(wire("other.example"), "c.example", 60), host("c.example", 60)), "[a.example] [] 0 false", nil},
		{"other class", reply(0, strings.Replace(answer(asked, TypeA, 60, addr4), "\x00\x01\x00\x01", "\x00\x01\x00\x03", 1)), "[a.example] [] 0 false", nil},
		{"truncated", reply(0x0200, answer(asked, TypeA, 60, addr4), answer(asked, TypeA, 60, addr4)[:9]), "[a.example] [198.51.100.1] 60 true", nil},
		{"no such name", reply(3, answer(asked, TypeA, 60, addr4)), "[] [] 0 false", nil},
		{"address of 3 bytes", reply(0, answer(asked, TypeA, 60, addr4), answer(asked, TypeA, 60, addr4[:3])), "[] [] 0 false", ErrMalformed},
		{"bytes after an alias", reply(0, answer(asked, TypeCNAME, 60, wire("b")+"x")), "[] [] 0 false", ErrMalformed},
		{"alias to itself by a pointer", reply(0, answer(asked, TypeCNAME, 60, "\xc0\x27")), "[] [] 0 false", ErrMalformed},
		{"query", query("a.example"), "[] [] 0 false", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var m Message
			_ = m.Parse(tc.bytes)
			var r Resolution
			err := m.Resolve(0, &r)
			if !errors.Is(err, tc.err) {
				t.Errorf("%v, want %v", err, tc.err)
			}
			if got := fmt.Sprintf("%s %v %d %v", r.Names, r.Addrs, r.TTL, r.Cut); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestResolveLimits(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, answer(asked, TypeA, 60, string([]byte{10, 0, 0, byte(i)})))
	}
	var m Message
	var r Resolution
	if err := errors.Join(m.Parse(reply(0, many...)), m.Resolve(0, &r)); err != nil {
		t.Fatal(err)
	}
	if len(r.Addrs) != MaxAddrs || !r.Cut {
		t.Errorf("%d addresses, cut: %v", len(r.Addrs), r.Cut)
	}
	chain := []string{answer(asked, TypeCNAME, 60, wire("0"))}
	for i := range 40 {
		chain = append(chain, answer(wire(fmt.Sprint(i)), TypeCNAME, 60, wire(fmt.Sprint(i+1))))
	}
	if err := errors.Join(m.Parse(reply(0, chain...)), m.Resolve(0, &r)); err != nil {
		t.Fatal(err)
	}
	if len(r.Names) != MaxNames || !r.Cut {
		t.Errorf("%d names, cut: %v", len(r.Names), r.Cut)
	}
}

// A question that is not there has no answer.
func TestResolveNoQuestion(t *testing.T) {
	var m Message
	var r Resolution
	_ = m.Parse(reply(0, answer(asked, TypeA, 60, addr4)))
	if err := m.Resolve(1, &r); err != nil || len(r.Names) != 0 {
		t.Error(err, r)
	}
}

func TestResolveAllocates(t *testing.T) {
	b := reply(0, answer(asked, TypeCNAME, 60, wire("b.example")), answer(wire("b.example"), TypeA, 60, addr4))
	var m Message
	var r Resolution
	run := func() {
		if m.Parse(b) != nil || m.Resolve(0, &r) != nil {
			t.Fatal("malformed")
		}
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkResolve(b *testing.B) {
	bytes := reply(0, answer(asked, TypeCNAME, 60, wire("b.example")), answer(wire("b.example"), TypeA, 60, addr4))
	var m Message
	var r Resolution
	b.ReportAllocs()
	for b.Loop() {
		if m.Parse(bytes) != nil || m.Resolve(0, &r) != nil {
			b.Fatal("malformed")
		}
	}
}
