// SPDX-License-Identifier: Apache-2.0

package nfqueue

import "encoding/binary"

// bypassFlag goes with a requeue verdict (NF_VERDICT_FLAG_QUEUE_BYPASS): where nothing
// has bound the other queue, the packet is accepted.
const bypassFlag = 0x8000

// Away says that no program reads a queue now, and what becomes of packets that would
// go there.
type Away struct {
	Queue  uint16
	Accept bool
}

// SetAway says to which queues nothing goes now, whoever decides so; it is all that there
// are. No verdict that comes after its return sends a packet there, not even one about a
// packet that the inspector had before.
func (r *Reader) SetAway(list []Away) {
	r.sending.Lock()
	defer r.sending.Unlock()
	away := away(list)
	r.away.Store(&away)
}

// away is what SetAway was told.
type away []Away

// of returns what becomes of packets to a queue; ok is false where they go there.
func (list away) of(queue uint16) (a Away, ok bool) {
	for _, a := range list {
		if a.Queue == queue {
			return a, true
		}
	}
	return Away{}, false
}

// requeue returns the verdict by which a packet goes to another queue. If that is not
// bound, the failure policy decides.
func (r *Reader) requeue(queue uint16) uint32 {
	verdict := verdictRequeue | uint32(queue)<<16
	if r.policy.Load() == verdictAccept {
		verdict |= bypassFlag
	}
	return verdict
}

// requeued is a verdict in the buffer that sends packets to another queue.
type requeued struct{ at, packets int }

// divert rewrites the verdicts that would send packets to a queue that no program reads
// now.
func (v *verdictBatch) divert(list away) {
	if len(list) == 0 {
		return
	}
	for _, q := range v.requeues {
		verdict := v.buf[q.at+verdictAt:]
		a, ok := list.of(uint16(binary.BigEndian.Uint32(verdict) >> 16))
		if !ok {
			continue
		}
		n := uint64(q.packets)
		v.counters.queued -= n
		v.counters.away += n
		if a.Accept {
			binary.BigEndian.PutUint32(verdict, verdictAccept)
			v.counters.accepted += n
		} else {
			binary.BigEndian.PutUint32(verdict, verdictDrop)
			v.counters.dropped += n
		}
	}
}
