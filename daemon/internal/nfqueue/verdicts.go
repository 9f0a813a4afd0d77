// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// verdictBatch is the verdict messages for one batch of packets. A run of packets
// with the same plain verdict becomes one batch verdict, which answers every
// packet up to its ID: all before the run have their answer further up.
type verdictBatch struct {
	buf   []byte
	queue uint16

	// requests are where the verdicts begin that ask to settle a flow.
	requests []int
	// requeues are the verdicts that send packets to another queue.
	requeues []requeued

	runVerdict, runID uint32
	runLength         int
	// single: there are no runs, because packets in front of them are deferred.
	single bool

	counters batchCounters
}

// rawVerdict is a verdict as the kernel takes it.
type rawVerdict struct {
	verdict     uint32
	mark        uint32
	priority    uint32
	payload     []byte
	setMark     bool
	setPriority bool
	settles     bool // the priority asks for it
}

func (r *rawVerdict) plain() bool { return !r.setMark && !r.setPriority && r.payload == nil }

func (v *verdictBatch) reset(buf []byte, queue uint16) {
	*v = verdictBatch{
		buf: buf[:0], queue: queue, requests: v.requests[:0], requeues: v.requeues[:0],
	}
}

// add appends the answer for the packet id, after that of its predecessor.
func (v *verdictBatch) add(id uint32, raw *rawVerdict) {
	if v.single || !raw.plain() {
		v.closeRun()
		if raw.settles {
			v.requests = append(v.requests, len(v.buf))
		}
		v.noteRequeue(raw.verdict, 1)
		v.buf = appendVerdict(v.buf, v.queue, id, raw)
		return
	}
	if v.runLength > 0 && v.runVerdict != raw.verdict {
		v.closeRun()
	}
	v.runVerdict, v.runID = raw.verdict, id
	v.runLength++
}

func (v *verdictBatch) closeRun() {
	v.noteRequeue(v.runVerdict, v.runLength)
	switch {
	case v.runLength > 1:
		v.buf = appendBatchVerdict(v.buf, v.queue, v.runID, v.runVerdict)
	case v.runLength == 1:
		v.buf = appendVerdict(v.buf, v.queue, v.runID, &rawVerdict{verdict: v.runVerdict})
	}
	v.runLength = 0
}

// noteRequeue notes that the next message may send packets to another queue.
func (v *verdictBatch) noteRequeue(verdict uint32, packets int) {
	if verdict > verdictAccept && packets > 0 {
		v.requeues = append(v.requeues, requeued{len(v.buf), packets})
	}
}

// revoke takes back the requests that say something else than these. What was to
// be dropped by a request is dropped by its verdict.
func (v *verdictBatch) revoke(now requestBits) {
	for _, at := range v.requests {
		m := v.buf[at:]
		priority := m[verdictPriorityAt(m):]
		bits := binary.BigEndian.Uint32(priority)
		if bits&settleMask == now.accept || bits&settleMask == now.drop {
			continue
		}
		binary.BigEndian.PutUint32(priority, bits&^settleMask)
		if bits&settleDrop != 0 {
			binary.BigEndian.PutUint32(m[verdictAt:], verdictDrop)
		}
		v.counters.settled--
	}
}

// count counts a packet's verdict.
func (v *verdictBatch) count(action inspect.Action, settled bool) {
	switch action {
	case inspect.Accept:
		v.counters.accepted++
	case inspect.Queue:
		v.counters.queued++
	case inspect.Reject:
		v.counters.rejected++
	default:
		v.counters.dropped++
	}
	if settled {
		v.counters.settled++
	}
}

// maxSend is what one sendmsg takes at most: the kernel wants less than the
// socket's send buffer, whose smallest default is 208 KiB.
const maxSend = 128 << 10

// chunk cuts whole messages of at most maxSend bytes, or a single one, off the
// front of b.
func chunk(b []byte) (head, rest []byte) {
	end := 0
	for end+unix.SizeofNlMsghdr <= len(b) {
		next := end + align(int(binary.NativeEndian.Uint32(b[end:])))
		if end > 0 && next > maxSend {
			break
		}
		end = next
	}
	end = min(end, len(b))
	return b[:end], b[end:]
}
