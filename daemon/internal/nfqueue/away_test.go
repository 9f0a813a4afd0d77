// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// sent returns the verdicts about packets that the inspector answers so.
func sent(t *testing.T, r *Reader, packets int) []uint32 {
	t.Helper()
	w := newWire(t)
	sendBatch(t, r, w, packets)
	messages, err := w.read()
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make([]uint32, len(messages))
	for i, m := range messages {
		verdicts[i] = binary.BigEndian.Uint32(m)
	}
	return verdicts
}

func answering(v inspect.Verdict) *Reader {
	return testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict { return v }))
}

// A run of packets for another queue is one verdict. Where the queue is not bound, the
// failure policy decides.
func TestRequeue(t *testing.T) {
	for failOpen, want := range map[bool]uint32{true: 81<<16 | 0x8003, false: 81<<16 | 3} {
		r := answering(inspect.Verdict{Action: inspect.Queue, Queue: 81})
		r.SetFailOpen(failOpen)
		got := sent(t, r, 4)
		if len(got) != 1 || got[0] != want {
			t.Errorf("fail open %v: verdicts %x, want %x once", failOpen, got, want)
		}
		if n := r.Counters.Queued.Load(); n != 4 {
			t.Errorf("%d are counted, want 4", n)
		}
	}
}

// While a program is away nothing is sent to its queue, also no packet that was decided
// about before; other queues are as before.
func TestAway(t *testing.T) {
	for accept, want := range map[bool]uint32{true: verdictAccept, false: verdictDrop} {
		var r *Reader
		mark := uint32(0)
		r = testReader(inspect.Func(func(p *inspect.Packet) inspect.Verdict {
			r.SetAway([]Away{{81, accept}, {82, !accept}}) // in the batch
			mark += 1 << 24
			return inspect.Verdict{Action: inspect.Queue, Queue: 81, Mark: mark, MarkMask: mark}
		}))
		got := sent(t, r, 3)
		if len(got) != 3 || got[0] != want || got[2] != want {
			t.Errorf("accept %v: verdicts %x", accept, got)
		}
		c := &r.Counters
		if c.Away.Load() != 3 || c.Queued.Load() != 0 || c.Accepted.Load()+c.Dropped.Load() != 3 {
			t.Errorf("away %d, queued %d", c.Away.Load(), c.Queued.Load())
		}
		r = answering(inspect.Verdict{Action: inspect.Queue, Queue: 83})
		r.SetAway([]Away{{81, accept}})
		if got := sent(t, r, 3); len(got) != 1 || got[0] != 83<<16|0x8003 {
			t.Errorf("another queue: verdicts %x", got)
		}
		r.SetAway([]Away{{83, accept}})
		if got := sent(t, r, 3); len(got) != 1 || got[0] != want || r.Counters.Away.Load() != 3 {
			t.Errorf("a run: verdicts %x", got)
		}
	}
}
