// SPDX-License-Identifier: Apache-2.0

package reject

import (
	"slices"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// An answer is known again once, and only where it leaves the pod.
func TestSent(t *testing.T) {
	for name, b := range map[string][]byte{
		"TCP":         ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")),
		"TCP, IPv6":   ip(client6(), server6(), inspect.ProtoTCP, segment(ack, 1, 2, "data")),
		"UDP":         ip(client4(), server4(), inspect.ProtoUDP, datagram(10)),
		"UDP, IPv6":   ip(client6(), server6(), inspect.ProtoUDP, datagram(10)),
		"other":       ip(client4(), server4(), inspect.ProtoSCTP, make([]byte, 20)),
		"other, IPv6": ip(client6(), server6(), inspect.ProtoSCTP, make([]byte, 20)),
	} {
		s := newSent()
		p := packet(slices.Clone(NewAnswers().Make(packet(b), 0, 7)[0].Packet))
		another := packet(slices.Clone(NewAnswers().Make(packet(b), 0, 8)[0].Packet))
		if s.take(p) {
			t.Errorf("%s: known before it was sent", name)
		}
		s.add(p.Payload)
		in := *p
		in.Direction = inspect.In
		if s.take(another) || s.take(&in) || s.take(packet(b)) {
			t.Errorf("%s: another packet is known", name)
		}
		if !s.take(p) || s.take(p) || s.waiting.Load() != 0 {
			t.Errorf("%s: not known once", name)
		}
	}
}

// The newest answers are known where too many have not come back.
func TestSentIsBounded(t *testing.T) {
	s := newSent()
	rejected := packet(ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	var all []*inspect.Packet
	for i := range uint32(2 * maxSent) {
		b := slices.Clone(NewAnswers().Make(rejected, 0, 1+i)[0].Packet)
		all = append(all, packet(b))
		s.add(b)
	}
	for i, p := range all {
		if got, want := s.take(p), i >= maxSent; got != want {
			t.Fatalf("answer %d is known: %t", i, got)
		}
	}
	if n := s.waiting.Load(); n != 0 {
		t.Errorf("%d left", n)
	}
}

func BenchmarkSentOthers(b *testing.B) {
	s := newSent()
	s.add([]byte{1})
	p := packet(ip(client4(), server4(), inspect.ProtoTCP, segment(ack, 1, 2, "data")))
	for b.Loop() {
		s.take(p)
	}
}

func TestLimit(t *testing.T) {
	l := newLimit(0)
	count := func(now time.Duration) (n int) {
		for l.allows(now) {
			n++
		}
		return n
	}
	for _, tt := range []struct {
		now  time.Duration
		want int
	}{
		{0, burst},
		{500 * time.Microsecond, 0},
		{time.Millisecond, 1},
		{2500 * time.Microsecond, 1},
		{3 * time.Millisecond, 1},
		{23 * time.Millisecond, 20},
		{time.Hour, burst},
	} {
		if got := count(tt.now); got != tt.want {
			t.Errorf("after %v: %d, want %d", tt.now, got, tt.want)
		}
	}
}
