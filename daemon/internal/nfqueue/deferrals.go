// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const (
	// maxDeferred packets of a queue may be deferred, and a quarter of its length.
	// Kernels that look for a verdict's packet from the oldest on (6.1 does) take the
	// longer for it, the more are deferred; on 6.18, 1,000 made no difference.
	maxDeferred = 1024
	// deferredShare is which part of a queue's length that is.
	deferredShare = 4
	// maxDeferredBytes are kept of them, where all of a packet is.
	maxDeferredBytes = 4 << 20
	// minWait is how long the timer runs at least.
	minWait = time.Millisecond
)

// deferrals are the packets of a reader that wait in the kernel because the inspector
// has deferred their verdict. While there are some, no other packets are answered by
// a verdict about all up to an ID, which would be about these, too.
//
// Each is answered once: by its Release, after its limit by the timer, by the session
// where it was released while its batch was inspected, or by what ends the deferring
// (End, EndDeferrals, Rebind, Close and Supersede). The reader's sending guards all
// fields but waiting, and is held until the kernel has the verdict.
type deferrals struct {
	answers
	limit          int
	slots          []*deferral
	unused         []*deferral
	oldest, newest *deferral
	tickets        uint64
	bytes          int
	// waiting is how many there are.
	waiting atomic.Int64
	// released are the tickets of packets that were released while their batch was
	// inspected, in order.
	released []uint64
	// session is the one whose packets may be deferred, nil for none any more.
	session *session
	ended   bool

	timer *time.Timer
	due   time.Duration // by the reader's clock; 0 while the timer is off
	flush func(fd uintptr)
}

// newDeferrals returns nil where the queue's inspector does not defer verdicts.
func newDeferrals(r *Reader) *deferrals {
	c := &r.queue.config
	if !c.Defers {
		return nil
	}
	d := &deferrals{
		answers: answers{reader: r}, limit: min(maxDeferred, int(c.Length/deferredShare)),
	}
	d.flush = d.write
	return d
}

// any reports whether packets are deferred. Only a session defers more.
func (d *deferrals) any() bool { return d != nil && d.waiting.Load() > 0 }

// take keeps a packet, and returns nil where too much is kept.
func (d *deferrals) take(p *inspect.Packet, limit time.Duration) *deferral {
	size := min(len(p.Payload), len(deferral{}.head))
	if d.reader.queue.config.Modifies || d.reader.options.Observer() != nil {
		size = len(p.Payload)
	}
	if d.bytes+size > maxDeferredBytes {
		return nil
	}
	x := d.slot()
	if x == nil {
		return nil
	}
	d.tickets++
	x.ticket = d.tickets<<slotBits | uint64(x.number)
	x.state = asked
	x.deadline = d.reader.clock() + min(max(limit, 0), inspect.MaxDefer)
	x.keep(p, size)
	d.bytes += size
	d.waiting.Add(1)
	x.previous = d.newest
	if d.newest != nil {
		d.newest.next = x
	} else {
		d.oldest = x
	}
	d.newest = x
	return x
}

// slot returns one that is free, nil for none.
func (d *deferrals) slot() *deferral {
	if n := len(d.unused); n > 0 {
		x := d.unused[n-1]
		d.unused = d.unused[:n-1]
		return x
	}
	if len(d.slots) >= d.limit {
		return nil
	}
	x := &deferral{number: len(d.slots)}
	d.slots = append(d.slots, x)
	return x
}

// free forgets a packet, whose ticket is worth nothing from now on.
func (d *deferrals) free(x *deferral) {
	if x.previous != nil {
		x.previous.next = x.next
	} else {
		d.oldest = x.next
	}
	if x.next != nil {
		x.next.previous = x.previous
	} else {
		d.newest = x.previous
	}
	d.bytes -= len(x.packet.Payload)
	d.waiting.Add(-1)
	x.clear()
	d.unused = append(d.unused, x)
}

// find returns the packet of a ticket, nil where it has its verdict.
func (d *deferrals) find(ticket uint64) *deferral {
	number := ticket & (1<<slotBits - 1)
	if number >= uint64(len(d.slots)) || d.slots[number].ticket != ticket {
		return nil
	}
	return d.slots[number]
}

// Release gives a packet its verdict. While its batch is inspected, the session does:
// the verdicts about packets in front of it are not sent yet.
func (d *deferrals) Release(ticket uint64, v inspect.Verdict) bool {
	d.reader.sending.Lock()
	defer d.reader.sending.Unlock()
	d.begin()
	released := d.release(ticket, v)
	d.send()
	return released
}

// ReleaseAll releases packets with one system call.
func (d *deferrals) ReleaseAll(held []inspect.Deferred, verdicts []inspect.Verdict) int {
	d.reader.sending.Lock()
	defer d.reader.sending.Unlock()
	d.begin()
	released := 0
	for i, h := range held {
		if d.release(h.Ticket(), verdicts[i]) {
			released++
		}
	}
	d.send()
	return released
}

func (d *deferrals) release(ticket uint64, v inspect.Verdict) bool {
	x := d.find(ticket)
	switch {
	case x == nil || x.released:
		return false
	case x.state == waits:
		d.answerWith(x, v)
		return true
	}
	v.Payload = bytes.Clone(v.Payload)
	x.released, x.verdict = true, v
	d.released = append(d.released, ticket)
	return true
}

func (d *deferrals) begin() {
	d.verdicts.reset(d.verdicts.buf, d.reader.queue.config.Number)
	d.requests = d.reader.requests()
}

// answerWith answers a packet. Where it waits, and none has waited longer, all older
// ones have their verdicts, so that one about all up to it is about nothing else.
func (d *deferrals) answerWith(x *deferral, v inspect.Verdict) {
	d.verdicts.single = x.state != waits || x != d.oldest
	d.conclude(&x.packet, &v)
	d.free(x)
}

// send gives what was begun to the kernel. A queue that is closed has no packets.
func (d *deferrals) send() {
	if len(d.verdicts.buf) > 0 || d.verdicts.runLength > 0 {
		_ = d.reader.raw.Control(d.flush)
	}
}

// expire gives the policy's verdict to packets whose limit has passed. The timer
// calls it.
func (d *deferrals) expire() {
	d.reader.sending.Lock()
	defer d.reader.sending.Unlock()
	now, due := d.reader.clock(), time.Duration(0)
	d.begin()
	for x := d.oldest; x != nil; {
		next := x.next
		switch {
		case x.state != waits: // its session sets the timer
		case x.deadline <= now:
			d.giveUp(x)
		case due == 0 || x.deadline < due:
			due = x.deadline
		}
		x = next
	}
	d.send()
	d.due = 0
	if due != 0 {
		d.arm(due)
	}
}

// giveUp gives a packet the policy's verdict.
func (d *deferrals) giveUp(x *deferral) {
	d.verdicts.counters.expired++
	d.answerWith(x, inspect.Verdict{})
}

// arm has the timer run at a time by the reader's clock, unless it runs before.
func (d *deferrals) arm(due time.Duration) {
	if d.due != 0 && d.due <= due {
		return
	}
	d.due = due
	wait := max(due-d.reader.clock(), minWait)
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, d.expire)
		return
	}
	d.timer.Reset(wait)
}

// answerAll gives all packets that wait the policy's verdict, oldest first. Those of a
// batch that is being inspected stay its session's.
func (d *deferrals) answerAll() {
	if d == nil {
		return
	}
	d.reader.sending.Lock()
	defer d.reader.sending.Unlock()
	d.begin()
	for x := d.oldest; x != nil; {
		next := x.next
		if x.state == waits {
			d.giveUp(x)
		}
		x = next
	}
	d.send()
}

// end answers all packets and has no more deferred. Of a batch that is being
// inspected it answers those that its session takes for deferred.
func (d *deferrals) end() {
	if d == nil {
		return
	}
	d.reader.sending.Lock()
	defer d.reader.sending.Unlock()
	d.session, d.ended, d.released = nil, true, nil
	d.begin()
	for x := d.oldest; x != nil; {
		next := x.next
		switch {
		case x.state == asked:
			d.free(x)
		case x.released:
			d.answerWith(x, x.verdict)
		default:
			d.giveUp(x)
		}
		x = next
	}
	d.send()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// supersede answers all packets with the batch of a session that overran, which ends
// with newest, by the verdict about all of them: who hangs releases nothing.
func (d *deferrals) supersede(by *session, newest uint32) error {
	r := d.reader
	r.sending.Lock()
	defer r.sending.Unlock()
	d.released = nil
	accept := r.policy.Load() == verdictAccept
	for d.oldest != nil {
		if d.oldest.state == waits {
			d.countSuperseded(accept)
		}
		d.free(d.oldest)
	}
	if !d.ended {
		d.session = by
	}
	return r.queue.AnswerAll(newest, accept)
}

func (d *deferrals) countSuperseded(accept bool) {
	c := &d.reader.Counters
	c.Expired.Add(1)
	if accept {
		c.Accepted.Add(1)
	} else {
		c.Dropped.Add(1)
	}
}
