// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// heldFlow is a flow whose packets wait.
type heldFlow struct {
	packets        []heldPacket
	last           time.Duration // when the last one came
	mark, markMask uint32
	direction      inspect.Direction
	reason         string // what decided

	// leak is how many bytes may go on before the flow is decided, and passed are those
	// that did.
	leak   int
	passed []span
	// dropped is the first byte that was dropped, if isDropped.
	dropped   uint32
	isDropped bool
}

// heldPacket is a packet that waits.
type heldPacket struct {
	inspect.Deferred
	span
}

// span is a piece of a stream of TCP: the sequence numbers of its first byte and of what
// follows it. That of another packet is empty.
type span struct{ seq, end uint32 }

// spanOf returns the place of a packet in its stream.
func spanOf(packet *inspect.Packet) span {
	f, ok := packet.Flow()
	if !ok || f.Protocol != inspect.ProtoTCP {
		return span{}
	}
	g, ok := stream.Parse(f.Transport, packet.Length-(len(packet.Payload)-len(f.Transport)))
	if !ok {
		return span{}
	}
	return span{g.Seq, g.End()}
}

func before(a, b uint32) bool { return int32(a-b) < 0 }

// hasPassed reports whether all bytes of a packet have gone on before: it is sent again.
func (f *heldFlow) hasPassed(p heldPacket) bool {
	return slices.ContainsFunc(f.passed, func(s span) bool {
		return !before(p.seq, s.seq) && !before(s.end, p.end)
	})
}

// goOn has the pieces of a message go on for which there is room left. The others are
// dropped: they have left the node then, and are sent again when the rest has arrived.
// From then on nothing more goes on, so that it is known what the receiver waits for.
func (f *heldFlow) goOn() {
	kept := f.packets[:0]
	for _, p := range f.packets {
		size := int(p.end - p.seq)
		switch {
		case size == 0:
			kept = append(kept, p)
		case size <= f.leak:
			f.leak -= size
			f.pass(p)
		default:
			f.drop(p)
			p.Release(f.verdict(inspect.Drop))
		}
	}
	f.packets = kept
}

// pass lets a piece go on.
func (f *heldFlow) pass(p heldPacket) {
	p.Release(f.verdict(inspect.Accept))
	if n := len(f.passed); n > 0 && f.passed[n-1].end == p.seq {
		f.passed[n-1].end = p.end
		return
	}
	f.passed = append(f.passed, p.span)
}

// drop notes that a packet is dropped.
func (f *heldFlow) drop(p heldPacket) {
	if !f.isDropped || before(p.seq, f.dropped) {
		f.dropped, f.isDropped = p.seq, true
	}
	f.leak = 0
}

func (f *heldFlow) verdict(a inspect.Action) inspect.Verdict {
	return inspect.Verdict{Action: a, Mark: f.mark, MarkMask: f.markMask, Reason: f.reason}
}

// release gives all packets that wait this verdict.
func (f *heldFlow) release(v inspect.Verdict) {
	for _, p := range f.packets {
		p.Release(v)
	}
}

// refuse drops the packets of a flow that was refused without another packet. The ends of
// a rejected one are told by the first of them.
func (f *heldFlow) refuse(verdict compile.Verdict) {
	for i, p := range f.packets {
		v := f.verdict(inspect.Drop)
		if verdict == compile.Rejected && i == 0 {
			v.Action, v.Withheld = inspect.Reject, f.withheld(p.seq)
		}
		p.Release(v)
	}
}

// withheld returns how many bytes right before this number have not gone on.
func (f *heldFlow) withheld(seq uint32) uint32 {
	first := seq
	if f.isDropped && before(f.dropped, first) {
		first = f.dropped
	}
	for _, p := range f.packets {
		if before(p.seq, first) {
			first = p.seq
		}
	}
	return seq - first
}
