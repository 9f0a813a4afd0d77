// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// holdLimit is how long a packet is held at most. Its flow is decided before.
const holdLimit = judge.DefaultTimeout + 5*time.Second

// held has the packets of a pod that wait for a decision of their flows, oldest first.
type held struct {
	flows   map[uint64]*heldFlow
	decided []decidedFlow // since packets were released
}

type heldFlow struct {
	packets []inspect.Deferred
	last    time.Duration // when the last one came
}

type decidedFlow struct {
	id      uint64
	verdict compile.Verdict
	by      string
}

// hold keeps a packet until its flow is decided. One that cannot be kept is dropped: its
// sender repeats it, and what is in it is known already.
func (h *held) hold(packet *inspect.Packet, flow uint64, now time.Duration) inspect.Verdict {
	d, ok := packet.Defer(holdLimit)
	if !ok {
		return inspect.Verdict{Action: inspect.Drop}
	}
	if h.flows == nil {
		h.flows = make(map[uint64]*heldFlow)
	}
	f := h.flows[flow]
	if f == nil {
		f = new(heldFlow)
		h.flows[flow] = f
	}
	f.packets, f.last = append(f.packets, d), now
	return inspect.Verdict{Action: inspect.Defer}
}

// note takes what was decided.
func (h *held) note(n *Note) {
	if n.Kind == judge.Decided && h.flows[n.ID] != nil {
		h.decided = append(h.decided, decidedFlow{n.ID, n.Verdict, n.Name()})
	}
}

// release lets the packets of decided flows go. The other ends are told of a rejected flow
// by the packet at which it was decided.
func (h *held) release(o *judge.Outcome) {
	for _, d := range h.decided {
		v := inspect.Verdict{Action: inspect.Drop, Reason: d.by}
		if d.verdict == compile.Accepted {
			v.Action = inspect.Accept
		}
		if o.Flow == d.id {
			v.Mark, v.MarkMask = o.Mark, o.MarkMask
		}
		if f := h.flows[d.id]; f != nil {
			for _, packet := range f.packets {
				packet.Release(v)
			}
			delete(h.flows, d.id)
		}
	}
	h.decided = h.decided[:0]
}

// expire forgets packets that have their verdict since their limit has passed.
func (h *held) expire(now time.Duration) {
	for id, f := range h.flows {
		if now-f.last > holdLimit {
			delete(h.flows, id)
		}
	}
}
