// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"testing"
)

// Four Initial packets without a whole hello are the end, and so is a fifth one.
func TestTries(t *testing.T) {
	h := hello("a.blocked.example", 600)
	part := func(i int) []byte {
		return sent{dcid: firstID, number: uint64(i), payload: crypto(h, 100*i, 100*i+100)}.seal(t)
	}
	whole := sent{dcid: firstID, number: 9, payload: crypto(h, 0, 600)}.seal(t)
	garbage := sent{dcid: firstID, source: "else", payload: crypto(h, 0, 600)}.seal(t)
	o := new(Opener)
	for _, first := range [][]byte{part(0), garbage} {
		s := o.NewState()
		for range 3 {
			if got := s.Feed(first, true); got > NeedMore {
				t.Errorf("status %d", got)
			}
		}
		feed(t, s, feeding{datagram: part(1), want: Limit}, feeding{datagram: whole, want: Limit}, feeding{datagram: []byte{0x40}, want: Limit})
		s.Reset()
		feed(t, s, feeding{datagram: whole, want: Complete, hello: h}, feeding{datagram: whole, want: Complete},
			feeding{datagram: whole, want: Complete}, feeding{datagram: whole, want: Complete}, feeding{datagram: whole, want: Limit, hello: h})
	}
	feed(t, o.NewState(), feeding{datagram: join(part(0), part(1), part(2), part(3), part(4)), want: Limit})
	feed(t, o.NewState(), feeding{datagram: join(whole, garbage, garbage, garbage, garbage), want: Complete, hello: h})
}

// A flow has 16 KiB for all its connections.
func TestRoom(t *testing.T) {
	h := hello("a.blocked.example", maxCrypto)
	for _, size := range []int{maxCrypto, 6000} {
		s := new(Opener).NewState()
		sum := 0
		for i := range 4 {
			s.Feed(sent{dcid: fmt.Sprint("conn-", i), payload: crypto(h, max(0, size-1000), size)}.seal(t), true)
		}
		for i := range s.connections {
			sum += cap(s.connections[i].crypto.bytes)
		}
		if sum > maxCrypto+maxTried*step {
			t.Errorf("%d bytes of buffers", sum)
		}
		s.Reset()
		for i := range s.connections {
			if n := cap(s.connections[i].crypto.bytes); n > keep {
				t.Errorf("kept %d bytes", n)
			}
		}
	}
	s := new(Opener).NewState()
	feed(t, s,
		feeding{datagram: sent{dcid: "conn-a", payload: crypto(h, 0, 9000)}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: "conn-b", payload: crypto(h, 0, 9000)}.seal(t), want: Limit},
		feeding{datagram: sent{dcid: "conn-a", number: 1, payload: crypto(h, 9000, maxCrypto)}.seal(t), want: Complete, hello: h})
}

// A state that served a flow remembers nothing of it.
func TestReset(t *testing.T) {
	h, other := hello("a.blocked.example", 300), hello("b.blocked.example", 200)
	s := new(Opener).NewState()
	feed(t, s, feeding{datagram: sent{dcid: firstID, payload: crypto(h, 0, 300)}.seal(t), want: Complete, hello: h})
	s.Reset()
	if s.Hello() != nil || s.Pending() {
		t.Error("something is left")
	}
	feed(t, s,
		feeding{datagram: sent{dcid: firstID, payload: crypto(other, 0, 100)}.seal(t), want: NeedMore},
		feeding{datagram: sent{dcid: firstID, number: 1, payload: crypto(other, 100, 200)}.seal(t), want: Complete, hello: other})
}

// twoDatagrams is the hello of a client with post-quantum keys, for new flows.
func twoDatagrams(t testing.TB) (pairs [][2][]byte) {
	t.Helper()
	h := hello("a.blocked.example", 1800)
	for i := range 2 * cachedKeys {
		dcid := fmt.Sprintf("first-%02d", i)
		pairs = append(pairs, [2][]byte{
			sent{dcid: dcid, scid: clientID, payload: crypto(h, 0, 1150), pad: 1160}.seal(t),
			sent{dcid: dcid, scid: clientID, number: 1, payload: crypto(h, 1150, 1800), pad: 1160}.seal(t),
		})
	}
	return pairs
}

// A new flow allocates its state, two buffers and what its keys take; a state that
// is used again, only the keys.
func TestAllocations(t *testing.T) {
	pairs := twoDatagrams(t)
	o := new(Opener)
	reused := o.NewState()
	i := 0
	for name, c := range map[string]struct {
		state func() *State
		most  float64
	}{
		"new":    {o.NewState, 8},
		"reused": {func() *State { reused.Reset(); return reused }, 4},
	} {
		n := testing.AllocsPerRun(100, func() {
			s, pair := c.state(), &pairs[i%len(pairs)]
			i++
			s.Feed(pair[0], true)
			if s.Feed(pair[1], true) != Complete {
				t.Error("not complete")
			}
		})
		t.Logf("%s state: %.0f allocations", name, n)
		if n > c.most {
			t.Errorf("%s state: %.0f allocations, at most %.0f wanted", name, n, c.most)
		}
	}
}

func BenchmarkHelloOfTwoDatagrams(b *testing.B) {
	pairs := twoDatagrams(b)
	s := new(Opener).NewState()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Reset()
		s.Feed(pairs[i%len(pairs)][0], true)
		s.Feed(pairs[i%len(pairs)][1], true)
	}
}

func BenchmarkUnopened(b *testing.B) {
	datagram := sent{dcid: firstID, source: "else", payload: []byte{framePing}, pad: 1160}.seal(b)
	s := new(Opener).NewState()
	b.ReportAllocs()
	for b.Loop() {
		s.Reset()
		s.Feed(datagram, true)
	}
}
