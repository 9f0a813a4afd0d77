// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// framed is messages with their lengths.
func framed(messages ...[]byte) []byte {
	var b []byte
	for _, m := range messages {
		b = append(append(b, byte(len(m)>>8), byte(len(m))), m...)
	}
	return b
}

// feed gives a stream segments of a size, and returns the messages' questions.
func feed(s *Stream, b []byte, size int) (found []string, errs error) {
	var m Message
	for segment := range slices.Chunk(b, size) {
		for len(segment) > 0 {
			message, rest, ok := s.Next(slices.Clip(segment))
			if segment = rest; ok {
				errs = errors.Join(errs, m.Parse(message))
				found = append(found, names(&m))
			}
		}
	}
	return found, errs
}

// Whatever the segments, all messages are found: several in one, a length or a name
// in two.
func TestStream(t *testing.T) {
	b := framed(query("www.allowed.example"), query("wwW.blocked.example"), query("c.example"))
	want := []string{"www.allowed.example A", "www.blocked.example A", "c.example A"}
	for size := 1; size <= len(b); size++ {
		var s Stream
		got, err := feed(&s, b, size)
		if !slices.Equal(got, want) || err != nil || !s.Idle() {
			t.Errorf("segments of %d: %q, %v", size, got, err)
		}
	}
}

// The questions of a message that is larger than what a stream keeps are found, and
// so is the message that follows it.
func TestStreamLargeMessage(t *testing.T) {
	pad := "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xf0\x00" + strings.Repeat("\x00", 0xf000)
	large := append(header(0, 1, 0, 0, 1), question(wire("www.blocked.example"), TypeA)+pad...)
	b := framed(large, query("b.example"))
	for _, size := range []int{1, 2, 1460, len(b) - 20, len(b)} {
		var s Stream
		got, err := feed(&s, b, size)
		if !slices.Equal(got, []string{"www.blocked.example A", "b.example A"}) {
			t.Errorf("segments of %d: %q", size, got)
		}
		if errors.Is(err, ErrShort) != (size <= 1460) {
			t.Errorf("segments of %d: %v", size, err)
		}
		if cap(s.Buffer) > DefaultMessage {
			t.Errorf("segments of %d: %d bytes are kept", size, cap(s.Buffer))
		}
	}
}

// A message that goes on when it is returned is told from one that is whole.
func TestStreamCut(t *testing.T) {
	b := framed(query("www.blocked.example"), query("b.example"))
	for _, size := range []int{1, 40, len(b)} {
		s := Stream{Buffer: make([]byte, 0, len(query("b.example")))}
		var cut []bool
		for segment := range slices.Chunk(b, size) {
			for len(segment) > 0 {
				var ok bool
				if _, segment, ok = s.Next(segment); ok {
					cut = append(cut, s.Cut())
				}
			}
		}
		if want := []bool{size == 1, false}; !slices.Equal(cut, want) {
			t.Errorf("segments of %d: %v", size, cut)
		}
	}
}

func TestStreamEmptyMessage(t *testing.T) {
	var s Stream
	got, err := feed(&s, framed(nil, query("b.example")), 1)
	if !slices.Equal(got, []string{"", "b.example A"}) || !errors.Is(err, ErrShort) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestStreamAllocates(t *testing.T) {
	b := framed(query("www.allowed.example"), query("www.blocked.example"))
	s := Stream{Buffer: make([]byte, 0, 512)}
	run := func() {
		for segment := range slices.Chunk(b, 30) {
			for len(segment) > 0 {
				_, segment, _ = s.Next(segment)
			}
		}
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
