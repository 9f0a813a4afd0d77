// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// begun returns a stream with its first bytes, of which the receiver has some.
func begun(t *testing.T, m *Memory, first string, acked int) *Stream {
	t.Helper()
	s := new(Stream)
	s.Init(1 << 14)
	s.Push(&Segment{Seq: 99, Flags: SYN}, m)
	s.Acknowledge(&Segment{Seq: 7, Ack: 100, Flags: SYN | ACK}, m)
	if r := s.Push(&Segment{Seq: 100, Flags: ACK, Payload: []byte(first)}, m); !r.Grew {
		t.Fatalf("%+v", r)
	}
	s.Acknowledge(&Segment{Ack: 100 + uint32(acked), Flags: ACK}, m)
	return s
}

func segmentAt(at int, text string) *Segment {
	return &Segment{Seq: 100 + uint32(at), Flags: ACK, Payload: []byte(text)}
}

func TestTail(t *testing.T) {
	m := &Memory{Pool: new(Pool)}
	s := begun(t, m, "abcdef", 4)
	var tail Tail
	if !s.Follow(&tail, m) || tail.Idle() {
		t.Fatal("it does not follow")
	}
	for _, c := range []struct {
		at     int
		text   string
		skip   uint64
		want   string
		passed int
		status Status
	}{
		{4, "eF", 0, "", 0, Conflict},
		{4, "ef", 0, "", 0, Accepted},
		{0, "XXXX", 0, "", 0, Accepted}, // the receiver has it
		{8, "ij", 0, "", 0, Outside},
		{4, "efgh", 0, "gh", 0, Accepted},
		{6, "gH", 0, "", 0, Conflict},
		{10, "KL", 4, "", 0, Accepted}, // of a body
		{12, "mn", 4, "", 0, Outside},  // half of it
		{8, "ij", 4, "ij", 2, Accepted},
		{12, "m", 0, "", 0, Outside}, // what is before the body is not confirmed
	} {
		b, passed, status := tail.Push(segmentAt(c.at, c.text), c.skip, m)
		if string(b) != c.want || passed != c.passed || status != c.status {
			t.Errorf("%d %q: %q, %d, %d", c.at, c.text, b, passed, status)
		}
	}
	tail.Acknowledge(&Segment{Ack: 100 + 12, Flags: ACK}, m)
	if b, _, status := tail.Push(segmentAt(12, "mn"), 0, m); string(b) != "mn" || status != Accepted {
		t.Errorf("%q, %d", b, status)
	}
	if _, _, status := tail.Push(&Segment{Seq: 114, Flags: ACK | URG, Payload: []byte("x")}, 0, m); status != Malformed {
		t.Errorf("urgent: %d", status)
	}
	if _, _, status := tail.Push(&Segment{Seq: 114, Flags: ACK, Payload: []byte("x"), Missing: 3}, 2, m); status != Truncated {
		t.Errorf("cut: %d", status)
	}
	tail.Release(m)
}

func TestTailWaitsForHoles(t *testing.T) {
	m := &Memory{Pool: new(Pool)}
	s := begun(t, m, "abc", 0)
	s.Push(segmentAt(5, "f"), m)
	var tail Tail
	if s.Follow(&tail, m) {
		t.Error("a piece is left behind")
	}
	s.Push(segmentAt(3, "de"), m)
	if !s.Follow(&tail, m) {
		t.Error("it does not follow")
	}
}

func TestTailKeepsNoMoreThanItMay(t *testing.T) {
	m := &Memory{Pool: new(Pool)}
	s := begun(t, m, "abc", 3)
	var tail Tail
	s.Follow(&tail, m)
	big := bytes.Repeat([]byte("x"), 10000)
	if _, _, status := tail.Push(segmentAt(3, string(big)), 0, m); status != Accepted {
		t.Errorf("%d", status)
	}
	if _, _, status := tail.Push(segmentAt(10003, string(big)), 0, m); status != Outside {
		t.Errorf("%d", status)
	}
	if _, _, status := tail.Push(segmentAt(10003, string(big)+string(big)), 0, m); status != Limit {
		t.Errorf("%d", status)
	}
}

// A reader gets the bytes that were sent, whatever the segments are, but for those of
// bodies, and the receiver gets nothing that the reader has not.
func FuzzTail(f *testing.F) {
	f.Add(uint64(1), []byte("abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, seed uint64, sent []byte) {
		if len(sent) > 1<<12 {
			return
		}
		m := &Memory{Pool: new(Pool)}
		tail := Tail{next: 100, until: 100}
		random := rand.New(rand.NewPCG(seed, 0))
		var got []byte
		for range 200 {
			at := random.IntN(len(sent) + 1)
			n := random.IntN(min(len(sent)-at, 9) + 1)
			b, passed, status := tail.Push(segmentAt(at, string(sent[at:at+n])), 0, m)
			if passed != 0 || status == Conflict {
				t.Fatalf("%d, %d", passed, status)
			}
			if got = append(got, b...); !bytes.HasPrefix(sent, got) {
				t.Fatalf("%q is not the start of %q", got, sent)
			}
			if status == Accepted && n > 0 && at+n > len(got) {
				t.Fatal("bytes pass that were not read")
			}
			if random.IntN(3) == 0 {
				tail.Acknowledge(&Segment{Ack: 100 + uint32(random.IntN(len(got)+1)), Flags: ACK}, m)
			}
		}
	})
}
