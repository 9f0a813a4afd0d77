// SPDX-License-Identifier: Apache-2.0

// Package settle decides when a flow has been looked at long enough: after a
// number of packets that the inspector accepted.
package settle

import (
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// maxFlows bounds the memory of one queue's counts. A queue with more flows at
// a time starts counting again, which only means that they settle later.
const maxFlows = 1 << 16

// flow identifies a conversation, the same in both directions.
type flow struct {
	low, high netip.AddrPort
	protocol  uint8
}

// After is an inspector for one queue that asks to settle a flow with the
// packet that is its n-th accepted one, and passes everything else on.
type After struct {
	next  inspect.Inspector
	n     uint32
	flows map[flow]uint32
}

// Around returns an inspector around next for one goroutine, which takes batches
// where next does.
func Around(n uint32, next inspect.Inspector) inspect.Inspector {
	a := NewAfter(n, next)
	if batches, ok := next.(inspect.BatchInspector); ok {
		return &afterBatch{After: a, batches: batches}
	}
	return a
}

// afterBatch is an After around an inspector that takes batches.
type afterBatch struct {
	*After
	batches inspect.BatchInspector
}

// InspectBatch does for each packet what Inspect does.
func (a *afterBatch) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	a.batches.InspectBatch(packets, verdicts)
	for i, p := range packets {
		verdicts[i] = a.count(p, verdicts[i])
	}
}

// NewAfter returns an inspector around next. It is for one goroutine.
func NewAfter(n uint32, next inspect.Inspector) *After {
	return &After{next: next, n: n, flows: make(map[flow]uint32)}
}

// Inspect asks the inspector behind it and counts what that accepts unchanged.
// What opens a connection of TCP is the first packet of its flow, whatever came
// before.
func (a *After) Inspect(p *inspect.Packet) inspect.Verdict {
	return a.count(p, a.next.Inspect(p))
}

// count counts the packet, and returns what becomes of its verdict.
func (a *After) count(p *inspect.Packet, v inspect.Verdict) inspect.Verdict {
	key, opens, ok := flowOf(p)
	if !ok {
		return v
	}
	if opens {
		delete(a.flows, key)
	}
	if v.Action != inspect.Accept || v.Settle || v.Payload != nil || v.MarkMask != 0 {
		return v
	}
	count := a.flows[key] + 1
	if count >= a.n {
		delete(a.flows, key) // the kernel has it, or it is counted again
		v.Settle = true
		return v
	}
	if len(a.flows) >= maxFlows {
		clear(a.flows)
	}
	a.flows[key] = count
	return v
}

// flowOf returns the flow of a packet of a protocol with ports, and whether the
// packet opens a connection of it.
func flowOf(p *inspect.Packet) (of flow, opens, ok bool) {
	f, ok := p.Flow()
	if !ok || f.Fragment {
		return flow{}, false, false
	}
	switch f.Protocol {
	case inspect.ProtoTCP, inspect.ProtoUDP, inspect.ProtoUDPLite, inspect.ProtoSCTP:
	default:
		return flow{}, false, false
	}
	a := netip.AddrPortFrom(f.Source, f.SourcePort)
	b := netip.AddrPortFrom(f.Destination, f.DestinationPort)
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	return flow{low: a, high: b, protocol: f.Protocol}, opensTCP(&f), true
}

// opensTCP reports a segment with SYN and without ACK.
func opensTCP(f *inspect.Flow) bool {
	const at, syn, ack = 13, 1 << 1, 1 << 4
	return f.Protocol == inspect.ProtoTCP && len(f.Transport) > at &&
		f.Transport[at]&(syn|ack) == syn
}
