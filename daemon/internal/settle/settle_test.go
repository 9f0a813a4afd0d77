// SPDX-License-Identifier: Apache-2.0

package settle

import (
	"encoding/binary"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// udp returns a packet between two hosts; reply swaps its ends.
func udp(port uint16, reply bool) *inspect.Packet {
	b := make([]byte, 28)
	b[0], b[9] = 0x45, inspect.ProtoUDP
	src, dst := b[12:16], b[16:20]
	sport, dport := b[20:22], b[22:24]
	if reply {
		src, dst, sport, dport = dst, src, dport, sport
	}
	copy(src, []byte{10, 0, 0, 1})
	copy(dst, []byte{10, 0, 0, 2})
	binary.BigEndian.PutUint16(sport, port)
	binary.BigEndian.PutUint16(dport, 53)
	return &inspect.Packet{Payload: b, Length: len(b)}
}

func TestBothDirectionsCount(t *testing.T) {
	a := NewAfter(3, inspect.AcceptAll{})
	for i, want := range []bool{false, false, true, false, false, true} {
		if v := a.Inspect(udp(1000, i%2 == 1)); v.Settle != want || v.Action != inspect.Accept {
			t.Errorf("packet %d: %+v, want settle %t", i+1, v, want)
		}
	}
	if v := a.Inspect(udp(1001, false)); v.Settle {
		t.Error("another flow is settled with its first packet")
	}
}

// tcp returns a segment of one flow with these flags.
func tcp(flags byte) *inspect.Packet {
	p := udp(1000, false)
	p.Payload[9] = inspect.ProtoTCP
	p.Payload = append(p.Payload, make([]byte, 12)...)
	p.Payload[20+13] = flags
	p.Length = len(p.Payload)
	return p
}

func TestConnectionsCountApart(t *testing.T) {
	const syn, rst, ack = 0x02, 0x04, 0x10
	verdict := inspect.Verdict{Action: inspect.Accept}
	a := NewAfter(3, inspect.Func(func(*inspect.Packet) inspect.Verdict { return verdict }))
	for i, c := range []struct {
		flags  byte
		action inspect.Action
		settle bool
	}{
		{syn, inspect.Accept, false},
		{syn | ack, inspect.Accept, false},
		{syn, inspect.Accept, false}, // another connection
		{ack, inspect.Accept, false},
		{ack, inspect.Accept, true},
		{ack, inspect.Accept, false},
		{rst, inspect.Accept, false},
		{syn, inspect.Drop, false}, // begins anew, but does not count
		{ack, inspect.Accept, false},
		{ack, inspect.Accept, false},
		{ack, inspect.Accept, true},
	} {
		verdict.Action = c.action
		if v := a.Inspect(tcp(c.flags)); v.Settle != c.settle || v.Action != c.action {
			t.Errorf("segment %d: %+v, want settle %t", i+1, v, c.settle)
		}
	}
	cut := tcp(syn)
	cut.Payload = cut.Payload[:20+13]
	a.Inspect(cut) // without its flags
}

func TestOtherVerdictsPassThrough(t *testing.T) {
	for _, v := range []inspect.Verdict{
		{Action: inspect.Drop},
		{},
		{Action: inspect.Accept, Mark: 1, MarkMask: 1},
		{Action: inspect.Accept, Payload: []byte{1}},
		{Action: inspect.Queue, Queue: 81},
	} {
		a := NewAfter(1, inspect.Func(func(*inspect.Packet) inspect.Verdict { return v }))
		if got := a.Inspect(udp(1, false)); got.Settle || got.Action != v.Action {
			t.Errorf("%+v became %+v", v, got)
		}
	}
	icmp := udp(1, false)
	icmp.Payload[9] = inspect.ProtoICMP
	if NewAfter(1, inspect.AcceptAll{}).Inspect(icmp).Settle {
		t.Error("a protocol without ports was settled")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	a := NewAfter(2, inspect.AcceptAll{})
	p := udp(1, false)
	for i := range 3 * maxFlows {
		binary.BigEndian.PutUint32(p.Payload[12:], uint32(i))
		a.Inspect(p)
	}
	if len(a.flows) > maxFlows {
		t.Errorf("%d flows are counted", len(a.flows))
	}
}

func TestDoesNotAllocate(t *testing.T) {
	a := NewAfter(1<<30, inspect.AcceptAll{})
	p := udp(1, false)
	if n := testing.AllocsPerRun(1000, func() { a.Inspect(p) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// batchInspector drops port 2000, whether in batches or not.
type batchInspector struct{ batches int }

func (*batchInspector) Inspect(*inspect.Packet) inspect.Verdict { return inspect.Verdict{} }

func (b *batchInspector) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	b.batches++
	for i, p := range packets {
		verdicts[i].Action = inspect.Accept
		if f, _ := p.Flow(); f.SourcePort == 2000 {
			verdicts[i].Action = inspect.Drop
		}
	}
}

// An inspector that takes batches takes them behind After, too, which counts each
// packet; one that does not takes none.
func TestAroundBatches(t *testing.T) {
	if _, ok := Around(2, inspect.AcceptAll{}).(inspect.BatchInspector); ok {
		t.Error("AcceptAll takes batches")
	}
	next := &batchInspector{}
	a, ok := Around(2, next).(inspect.BatchInspector)
	if !ok {
		t.Fatal("an inspector that takes batches takes none")
	}
	packets := []*inspect.Packet{
		udp(1000, false), udp(2000, false), udp(1000, true), udp(2000, false), udp(1001, false),
	}
	verdicts := make([]inspect.Verdict, len(packets))
	a.InspectBatch(packets, verdicts)
	for i, want := range []inspect.Verdict{
		{Action: inspect.Accept},
		{Action: inspect.Drop},
		{Action: inspect.Accept, Settle: true},
		{Action: inspect.Drop},
		{Action: inspect.Accept},
	} {
		if v := verdicts[i]; v.Action != want.Action || v.Settle != want.Settle {
			t.Errorf("packet %d: %+v, want %+v", i, v, want)
		}
	}
	if next.batches != 1 {
		t.Errorf("%d batches, want one", next.batches)
	}
}
