// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"bytes"
	"slices"
	"testing"
)

// The ClientHello is complete with its last byte and not before, however it is cut
// into records, and however the stream comes.
func TestJoin(t *testing.T) {
	for name, s := range map[string][]byte{
		"plain":                     stream(t, "plain.hex"),
		"two segments":              stream(t, "post-quantum.hex"),
		"records of 100 bytes":      stream(t, "records-100.hex"),
		"records of 1 byte":         records(plain("www.blocked.example"), 1),
		"two records":               records(plain("www.blocked.example"), 70),
		"warning before":            slices.Concat(rec(recordAlert, 1, 0), records(plain("www.blocked.example"), 500)),
		"warning between":           slices.Concat(rec(recordHandshake, 1), rec(recordAlert, 1, 112), records(plain("www.blocked.example")[1:], 50)),
		"change of ciphers before":  slices.Concat(rec(recordChange, 1), records(plain("www.blocked.example"), 500)),
		"change of ciphers between": slices.Concat(rec(recordHandshake, 1), rec(recordChange, 1), records(plain("www.blocked.example")[1:], 7)),
	} {
		var steps Joiner
		for n := range len(s) {
			if got, status := steps.Join(s[:n], nil); status != More || got != nil {
				t.Fatalf("%s: %d after %d of %d bytes", name, status, n, len(s))
			}
		}
		stepwise, status := steps.Join(s, nil)
		var atOnce Joiner
		got, status2 := atOnce.Join(s, nil)
		if status != Complete || status2 != Complete || !bytes.Equal(got, stepwise) {
			t.Errorf("%s: %d in steps, %d at once", name, status, status2)
		}
		if atOnce.End() != len(s) || steps.End() != len(s) {
			t.Errorf("%s ends at %d and %d, not %d", name, steps.End(), atOnce.End(), len(s))
		}
		var h Hello
		if h.Parse(got) != Complete || string(h.SNI) != "www.blocked.example" {
			t.Errorf("%s: name %q", name, h.SNI)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	long := slices.Concat([]byte{1, 0, 0x3f, 0xfc}, make([]byte, MaxStream-messageHeaderLen))
	for name, c := range map[string]struct {
		stream []byte
		want   Status
	}{
		"empty record":           {slices.Concat(rec(recordHandshake), records(plain("a.example"), 500)), Malformed},
		"empty record between":   {slices.Concat(rec(recordHandshake, 1), rec(recordHandshake)), Malformed},
		"empty warning":          {rec(recordAlert), Malformed},
		"fatal alert":            {rec(recordAlert, 2, 40), Malformed},
		"long alert":             {rec(recordAlert, 1, 40, 0), Malformed},
		"odd change of ciphers":  {rec(recordChange, 2), Malformed},
		"data":                   {rec(23, 1, 2, 3), Malformed},
		"data between":           {slices.Concat(rec(recordHandshake, 1), rec(23, 0)), Malformed},
		"version 16.0":           {[]byte{recordHandshake, 16}, Malformed},
		"record of 16385 bytes":  {[]byte{recordHandshake, 3, 1, 0x40, 0x01}, Malformed},
		"a server's hello":       {rec(recordHandshake, 2), Malformed},
		"a hello of 16 MiB":      {rec(recordHandshake, 1, 0xff, 0xff, 0xff), Limit},
		"a hello of 16 KiB + 1":  {rec(recordHandshake, 1, 0, 0x3f, 0xfd), Limit},
		"16 KiB and no room":     {records(long, 1<<14), Limit},
		"16 KiB in records of 1": {records(long, 1), Limit},
		"16 KiB of warnings":     {bytes.Repeat(rec(recordAlert, 1, 0), MaxStream/7+1), Limit},
		"16 KiB less one byte":   {records(long[:MaxStream-recordHeaderLen-1], 1<<14), More},
	} {
		if got, status := new(Joiner).Join(c.stream, nil); status != c.want || got != nil {
			t.Errorf("%s: %d, want %d", name, status, c.want)
		}
	}
}

// The largest hello that is joined is in one record and fills the stream.
func TestJoinLargest(t *testing.T) {
	size := MaxStream - recordHeaderLen - messageHeaderLen
	largest := slices.Concat([]byte{1, 0, byte(size >> 8), byte(size)}, make([]byte, size))
	s := append(records(largest, 1<<14), 0xff) // what follows does not matter
	if got, status := new(Joiner).Join(s, nil); status != Complete || !bytes.Equal(got, largest) {
		t.Errorf("%d with %d bytes", status, len(got))
	}
}

// The headers of records count: of a hello in records of 1 byte, 2,730 bytes are joined.
func TestJoinLargestOfSmallRecords(t *testing.T) {
	for size, want := range map[int]Status{2730: Complete, 2731: Limit} {
		hello := append([]byte{1, 0, byte((size - 4) >> 8), byte(size - 4)}, make([]byte, size-4)...)
		if got, status := new(Joiner).Join(records(hello, 1), nil); status != want {
			t.Errorf("%d bytes: %d with %d bytes, want %d", size, status, len(got), want)
		}
	}
}

// A client that is asked for another hello sends it behind a change of ciphers. It
// may name another server then.
func TestSecondHello(t *testing.T) {
	s := slices.Concat(records(plain("allowed.example"), 500), rec(recordChange, 1),
		records(plain("blocked.example"), 60))
	var names []string
	for len(s) > 0 {
		var j Joiner
		var h Hello
		message, status := j.Join(s, nil)
		if status != Complete || h.Parse(message) != Complete {
			t.Fatalf("%d, %q before", status, names)
		}
		names = append(names, string(h.SNI))
		s = s[j.End():]
	}
	if !slices.Equal(names, []string{"allowed.example", "blocked.example"}) {
		t.Errorf("names %q", names)
	}
}

// A hello may be complete before its record is: then the record ends later.
func TestEndIsAhead(t *testing.T) {
	m := plain("a.example")
	s := rec(recordHandshake, append(slices.Clone(m), 20, 0, 0)...)
	var j Joiner
	if got, status := j.Join(s[:len(s)-3], nil); status != Complete || !bytes.Equal(got, m) {
		t.Fatalf("%d", status)
	}
	if j.End() != len(s) {
		t.Errorf("ends at %d of %d", j.End(), len(s))
	}
}

func TestJoinDoesNotAllocate(t *testing.T) {
	scratch := make([]byte, 0, MaxStream)
	for _, size := range []int{1, 100, 1 << 14} {
		s := records(plain("www.blocked.example"), size)
		n := testing.AllocsPerRun(100, func() {
			var j Joiner
			if _, status := j.Join(s, scratch); status != Complete {
				t.Error(status)
			}
		})
		if n != 0 {
			t.Errorf("records of %d bytes: %v allocations", size, n)
		}
	}
}

// FuzzJoin compares a stream that comes at once with one that comes in steps. What is
// behind MaxStream is not looked at, so that longer inputs would only take their time.
func FuzzJoin(f *testing.F) {
	for _, name := range []string{"plain.hex", "post-quantum.hex", "records-100.hex", "upper-case.hex"} {
		f.Add(stream(f, name), uint8(7))
	}
	f.Add(slices.Concat(rec(recordAlert, 1, 0), rec(recordChange, 1), records(plain("a.example"), 1)), uint8(1))
	f.Add(rec(recordHandshake), uint8(2))
	scratch := make([]byte, 0, MaxStream)
	f.Fuzz(func(t *testing.T, s []byte, step uint8) {
		s = s[:min(len(s), MaxStream+recordHeaderLen)]
		want, status := new(Joiner).Join(s, nil)
		var j Joiner
		got, stepwise := []byte(nil), More
		for n := 0; stepwise == More && n < len(s); {
			n = min(n+1+int(step), len(s))
			got, stepwise = j.Join(s[:n:n], scratch)
		}
		if stepwise != status || !bytes.Equal(got, want) {
			t.Errorf("%d at once, %d in steps", status, stepwise)
		}
		if status == Complete && Recognise(s) != Yes {
			t.Error("joined, but not recognised")
		}
		if n, s := messageSize(want, len(want)); status == Complete && (s != Complete || n != len(want)) {
			t.Errorf("a message of %d bytes in %d", n, len(want))
		}
	})
}
