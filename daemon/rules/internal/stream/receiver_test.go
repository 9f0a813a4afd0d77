// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// receiver is the other end: it takes some of the segments that pass, and of two that
// overlap in front of a hole the first or the last.
type receiver struct {
	lastWins bool
	next     int
	there    [256]bool
	bytes    [256]byte
}

func (v *receiver) take(at int, b []byte) {
	for i, c := range b {
		if p := at + i; p >= v.next && p < len(v.bytes) && (v.lastWins || !v.there[p]) {
			v.there[p], v.bytes[p] = true, c
		}
	}
	for v.next < len(v.there) && v.there[v.next] {
		v.next++
	}
}

// check fails if the receiver can read what the stream does not have.
func (v *receiver) check(t *testing.T, s *Stream) {
	t.Helper()
	n := min(v.next, len(s.Bytes()))
	if !bytes.Equal(v.bytes[:n], s.Bytes()[:n]) {
		t.Fatalf("the receiver reads %q, the stream has %q", v.bytes[:n], s.Bytes()[:n])
	}
	if !s.decided && v.next > n && n < int(s.limit) {
		t.Fatalf("the receiver has %d bytes, the stream %d", v.next, n)
	}
}

// talk is a sender that says what in tells it, to receivers that get what in tells.
func talk(t *testing.T, in []byte) {
	t.Helper()
	const limit = 100
	m := newMemory()
	s := connected(m, limit)
	receivers := []receiver{{}, {lastWins: true}}
	for ; len(in) >= 4; in = in[4:] {
		offset, length, what := int(in[1])%110-2, int(in[2])%40, in[0]
		if in[1]&1 == 0 { // often near the start, and as short as a probe
			offset, length = offset%16, length%3
		}
		payload := make([]byte, length)
		for i := range payload {
			payload[i] = "aaab"[(offset+i+int(in[3]&in[2]))&3]
		}
		if what&31 == 31 {
			s.Decide(m)
		}
		r := s.Push(at(offset, string(payload), what&FIN), m)
		if r.Status.Over() && !s.decided && r.Status != Limit {
			t.Fatal(r)
		}
		if r.Status == Limit {
			break
		}
		for i := range receivers {
			v := &receivers[i]
			if !r.Status.Refused() && in[3]>>(4+i)&1 == 0 {
				v.take(offset, payload)
			}
			v.check(t, s)
		}
		if what&2 != 0 {
			s.Acknowledge(ackOf(ACK, min(receivers[0].next, receivers[1].next)), m)
		}
	}
	s.Release(m)
	if m.Account.Used() != 0 {
		t.Fatal(m.Account.Used(), "bytes are not given back")
	}
}

// Whatever a receiver gets of what passes, and however it joins that, it has no other
// bytes than the stream.
func FuzzReceiver(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(randomBytes(rnd, 4*(1+rnd.IntN(100))))
	}
	f.Fuzz(talk)
}

func TestReceiverHasWhatTheStreamHas(t *testing.T) {
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		talk(t, randomBytes(rnd, 4*(1+rnd.IntN(60))))
	}
}
