// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

const (
	// holdLimit is how long a packet is held at most. Its flow is decided before.
	holdLimit = judge.DefaultTimeout + 5*time.Second
	// holdQuiet is how long the pieces of a message over TCP are held while no other
	// comes. Its sender may be waiting: a kernel sends a small piece only when those
	// before it have arrived (Nagle), or at least have left the node, which they have
	// not while they are held (autocorking, TCP small queues).
	holdQuiet = 20 * time.Millisecond
	// holdLeak is how many bytes of a message go on so before it is decided.
	holdLeak = 2 << 10
)

// held has the packets of a pod that wait for a decision of their flows, oldest first.
type held struct {
	flows   map[uint64]*heldFlow
	decided []decidedFlow // since packets were released
}

type decidedFlow struct {
	id      uint64
	verdict compile.Verdict
	by      string
}

// hold keeps a packet until its flow is decided. One that cannot be kept is dropped: its
// sender repeats it, and what is in it is known already.
func (h *held) hold(packet *inspect.Packet, o *judge.Outcome, now time.Duration) inspect.Verdict {
	if h.flows == nil {
		h.flows = make(map[uint64]*heldFlow)
	}
	f := h.flows[o.Flow]
	if f == nil {
		f = &heldFlow{leak: holdLeak, direction: packet.Direction}
		h.flows[o.Flow] = f
	}
	p := heldPacket{span: spanOf(packet)}
	f.last, f.mark, f.markMask = now, o.Mark, o.MarkMask
	if f.hasPassed(p) {
		return f.verdict(inspect.Accept)
	}
	var ok bool
	if p.Deferred, ok = packet.Defer(holdLimit); !ok {
		f.drop(p)
		return f.verdict(inspect.Drop)
	}
	f.packets = append(f.packets, p)
	return inspect.Verdict{Action: inspect.Defer}
}

// note takes what was decided.
func (h *held) note(n *Note) {
	if n.Kind == judge.Decided && h.flows[n.ID] != nil {
		h.decided = append(h.decided, decidedFlow{n.ID, n.Verdict, n.Name()})
	}
}

// release lets the packets of decided flows go. It adds to the verdict about the packet at
// which they were decided what its receiver lacks.
func (h *held) release(o *judge.Outcome, packet *inspect.Packet, v *inspect.Verdict) {
	for _, d := range h.decided {
		f := h.flows[d.id]
		if f == nil {
			continue
		}
		delete(h.flows, d.id)
		isOf := o.Flow == d.id
		if isOf {
			f.mark, f.markMask = o.Mark, o.MarkMask
		}
		f.reason = d.by
		switch {
		case !d.verdict.Refuses():
			f.release(f.verdict(inspect.Accept))
		case isOf:
			f.release(f.verdict(inspect.Drop))
			if packet.Direction == f.direction {
				v.Withheld = f.withheld(spanOf(packet).seq)
			}
		default:
			f.refuse(d.verdict)
		}
	}
	h.decided = h.decided[:0]
}

// tick has pieces go on whose senders wait, and forgets packets that have their verdict
// since their limit has passed.
func (h *held) tick(now time.Duration) {
	for id, f := range h.flows {
		switch quiet := now - f.last; {
		case quiet > holdLimit:
			delete(h.flows, id)
		case quiet >= holdQuiet:
			f.goOn()
		}
	}
}
