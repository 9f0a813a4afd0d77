// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// answers are the verdict messages for one batch of packets. A run of packets
// with the same plain verdict becomes one batch verdict, which answers every
// packet up to its ID: all before the run have their answer further up.
type answers struct {
	buf   []byte
	queue uint16

	// requests are where the verdicts begin that ask to settle a flow.
	requests []int

	runVerdict, runID uint32
	runLength         int

	tally tally
}

// tally is what a batch adds to the counters.
type tally struct {
	packets, bytes                     uint64
	accepted, dropped, queued, settled uint64
	malformed, panics, errors, flushed uint64
	nanoseconds                        uint64 // of the inspector
}

// answer is a verdict as the kernel takes it.
type answer struct {
	verdict     uint32
	mark        uint32
	priority    uint32
	payload     []byte
	setMark     bool
	setPriority bool
	settles     bool // the priority asks for it
}

func (a *answer) plain() bool { return !a.setMark && !a.setPriority && a.payload == nil }

func (a *answers) reset(buf []byte, queue uint16) {
	*a = answers{buf: buf[:0], queue: queue, requests: a.requests[:0]}
}

// add appends the answer for the packet id, after that of its predecessor.
func (a *answers) add(id uint32, v *answer) {
	if !v.plain() || v.verdict > verdictAccept {
		a.endRun()
		if v.settles {
			a.requests = append(a.requests, len(a.buf))
		}
		a.buf = appendVerdict(a.buf, a.queue, id, v)
		return
	}
	if a.runLength > 0 && a.runVerdict != v.verdict {
		a.endRun()
	}
	a.runVerdict, a.runID = v.verdict, id
	a.runLength++
}

func (a *answers) endRun() {
	switch {
	case a.runLength > 1:
		a.buf = appendBatchVerdict(a.buf, a.queue, a.runID, a.runVerdict)
	case a.runLength == 1:
		a.buf = appendVerdict(a.buf, a.queue, a.runID, &answer{verdict: a.runVerdict})
	}
	a.runLength = 0
}

// revoke takes back the requests that say something else than these. What was to
// be dropped by a request is dropped by its verdict.
func (a *answers) revoke(now requestBits) {
	for _, at := range a.requests {
		m := a.buf[at:]
		priority := m[verdictPriorityAt(m):]
		bits := binary.BigEndian.Uint32(priority)
		if bits&settleMask == now.accept || bits&settleMask == now.drop {
			continue
		}
		binary.BigEndian.PutUint32(priority, bits&^settleMask)
		if bits&settleDrop != 0 {
			binary.BigEndian.PutUint32(m[verdictAt:], verdictDrop)
		}
		a.tally.settled--
	}
}

// count adds a packet's verdict to the tally.
func (a *answers) count(action inspect.Action, settled bool) {
	switch action {
	case inspect.Accept:
		a.tally.accepted++
	case inspect.Queue:
		a.tally.queued++
	default:
		a.tally.dropped++
	}
	if settled {
		a.tally.settled++
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
