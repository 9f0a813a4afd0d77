// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// deferring is a reader on a wire whose inspector defers what it is told to.
type deferring struct {
	*testing.T
	*Reader
	wire *wire
	now  time.Duration
	in   batch
	held map[uint32]inspect.Deferred
	// say answers each packet, after those IDs are deferred.
	deferred []uint32
	say      func(p *inspect.Packet) inspect.Verdict
}

func newDeferring(t *testing.T, batches bool) *deferring {
	t.Helper()
	d := &deferring{T: t, now: time.Hour, held: make(map[uint32]inspect.Deferred)}
	var i inspect.Inspector = inspect.Func(d.inspect)
	if batches {
		i = batchFunc(func(packets []*inspect.Packet, verdicts []inspect.Verdict) {
			for n, p := range packets {
				verdicts[n] = d.inspect(p)
			}
		})
	}
	r := testReader(i)
	r.queue.config.Defers, r.queue.config.Length = true, 40
	r.clock = func() time.Duration { return d.now }
	r.setSession()
	w := newWire(t)
	readFrom(t, r, w.ours)
	r.queue.setDeferrals(r.deferrals)
	r.deferrals.timer = time.AfterFunc(time.Hour, func() {}) // the test says when it runs
	d.Reader, d.wire = r, w
	return d
}

func (d *deferring) inspect(p *inspect.Packet) inspect.Verdict {
	v := inspect.Verdict{Action: inspect.Accept}
	if slices.Contains(d.deferred, p.ID) {
		held, ok := p.Defer(time.Second)
		if again, _ := p.Defer(time.Minute); !ok || again != held {
			d.Errorf("deferred %t, twice as %v and %v", ok, held, again)
		}
		d.held[p.ID] = held
		v.Action = inspect.Defer
	}
	if d.say != nil {
		v = d.say(p)
	}
	return v
}

// batch inspects packets and sends what is answered.
func (d *deferring) batch(ids ...uint32) {
	d.Helper()
	s := d.session
	s.verdicts.reset(d.in.verdicts, 80)
	s.begin(messageOf(d, ids[len(ids)-1], false))
	s.gatherIn(&d.in)
	for _, id := range ids {
		s.handle(messageOf(d, id, false))
	}
	s.inspectTogether()
	if err := s.send(uintptr(d.wire.ours), &d.in); err != nil {
		d.Fatal(err)
	}
}

// answered checks which verdicts the kernel has by now, of packets that wait with
// these IDs; those that are accepted are positive, dropped ones negative.
func (d *deferring) answered(waiting []uint32, want ...int) {
	d.Helper()
	var messages [][]byte
	for _, id := range waiting {
		messages = append(messages, messageOf(d, id, false))
	}
	var got []int
	for _, a := range singles(d.wire.takeAll(d.T), messages) {
		id := int(a.id)
		if a.verdict == verdictDrop {
			id = -id
		}
		got = append(got, id)
	}
	if !slices.Equal(got, want) {
		d.Errorf("answered %v, want %v", got, want)
	}
}

// done checks that nothing is kept any more, and what was counted.
func (d *deferring) done(deferred, expired, undeferred uint64) {
	d.Helper()
	k, c := d.deferrals, &d.Counters
	if k.any() || k.bytes != 0 || k.oldest != nil || k.newest != nil || len(k.unused) != len(k.slots) ||
		len(k.released) != 0 {
		d.Errorf("kept %+v", k)
	}
	if c.Deferred.Load() != deferred || c.Expired.Load() != expired || c.Undeferred.Load() != undeferred {
		d.Errorf("deferred %d, expired %d, undeferred %d, want %d, %d, %d", c.Deferred.Load(),
			c.Expired.Load(), c.Undeferred.Load(), deferred, expired, undeferred)
	}
	for id, held := range d.held {
		if held.Release(accept()) {
			d.Errorf("packet %d is released again", id)
		}
	}
}

func accept() inspect.Verdict { return inspect.Verdict{Action: inspect.Accept} }

func drop() inspect.Verdict { return inspect.Verdict{Action: inspect.Drop} }

// A deferred packet has no verdict until it is released, and no verdict about many
// packets is one about it.
func TestDeferred(t *testing.T) {
	for _, batches := range []bool{false, true} {
		d := newDeferring(t, batches)
		d.deferred = []uint32{3, 4}
		d.batch(1, 2, 3, 4, 5, 6)
		d.answered([]uint32{1, 2, 3, 4, 5, 6}, 1, 2, 5, 6)
		d.batch(7, 8)
		d.answered([]uint32{3, 4, 7, 8}, 7, 8)
		if !d.held[4].Release(drop()) || d.held[4].Release(accept()) {
			t.Error("not released once")
		}
		d.answered([]uint32{3, 4}, -4)
		if !d.held[3].Release(accept()) {
			t.Error("not released")
		}
		d.answered([]uint32{3}, 3)
		d.batch(9, 10)
		d.answered([]uint32{9, 10}, 9, 10)
		d.done(2, 0, 0)
		if c := &d.Counters; c.Packets.Load() != 10 || c.Accepted.Load() != 9 || c.Dropped.Load() != 1 {
			t.Errorf("%d packets, %d accepted, %d dropped", c.Packets.Load(), c.Accepted.Load(),
				c.Dropped.Load())
		}
	}
}

// Packets that are released together go in that order. A verdict about several is
// about those that have waited longest, and no others.
func TestReleaseAll(t *testing.T) {
	d := newDeferring(t, false)
	d.deferred = []uint32{1, 2, 3, 5, 6, 7, 8}
	d.batch(1, 2, 3, 4, 5, 6, 7, 8)
	d.answered([]uint32{1, 2, 3, 4, 5, 6, 7, 8}, 4)
	release := func(v inspect.Verdict, want int, ids ...uint32) {
		t.Helper()
		held, verdicts := []inspect.Deferred{{}}, []inspect.Verdict{v}
		for _, id := range ids {
			held, verdicts = append(held, d.held[id]), append(verdicts, v)
		}
		if n := inspect.ReleaseAll(held, verdicts); n != want {
			t.Errorf("%d released, want %d", n, want)
		}
	}
	release(accept(), 2, 2, 6, 2)
	d.answered([]uint32{1, 2, 3, 5, 6, 7, 8, 9}, 2, 6)
	release(drop(), 4, 8, 1, 3, 5)
	d.answered([]uint32{1, 3, 5, 7, 8, 9}, -8, -1, -3, -5)
	release(accept(), 1, 7, 3)
	d.answered([]uint32{7, 9}, 7)
	d.done(7, 0, 0)
}

// An inspector that releases packets and then answers has them go in this order, in
// one batch as in several.
func TestReleaseInInspect(t *testing.T) {
	for _, batches := range []bool{false, true} {
		for _, together := range []bool{false, true} {
			d := newDeferring(t, batches)
			d.deferred = []uint32{1, 2}
			d.say = func(p *inspect.Packet) inspect.Verdict {
				if p.ID == 3 {
					if !d.held[1].Release(accept()) || !d.held[2].Release(accept()) || d.held[2].Release(accept()) {
						t.Error("not released once")
					}
				}
				if p.ID < 3 {
					return inspect.Verdict{Action: inspect.Defer}
				}
				return accept()
			}
			if together {
				d.batch(1, 2, 3)
			} else {
				d.batch(1)
				d.batch(2)
				d.batch(3)
			}
			d.answered([]uint32{1, 2, 3}, 1, 2, 3)
			d.done(2, 0, 0)
		}
	}
}

// What Inspect answers goes before what Release has said while it ran.
func TestDeferredAfterAll(t *testing.T) {
	for _, batches := range []bool{false, true} {
		d := newDeferring(t, batches)
		d.deferred = []uint32{1, 2, 3}
		d.say = func(p *inspect.Packet) inspect.Verdict {
			if !d.held[p.ID].Release(accept()) {
				t.Error("not released")
			}
			switch p.ID {
			case 1:
				return drop()
			case 2:
				return inspect.Verdict{} // the policy accepts
			}
			return inspect.Verdict{Action: inspect.Defer}
		}
		d.batch(1, 2, 3)
		d.answered([]uint32{1, 2, 3}, -1, 2, 3)
		d.done(1, 0, 0)
	}
}

// A panic leaves all to the policy.
func TestDeferredAndPanic(t *testing.T) {
	for _, batches := range []bool{false, true} {
		d := newDeferring(t, batches)
		d.SetFailOpen(false)
		d.deferred = []uint32{1}
		d.say = func(*inspect.Packet) inspect.Verdict { panic("inspector") }
		d.batch(1)
		d.answered([]uint32{1}, -1)
		d.done(0, 0, 0)
	}
}

// Without a declaration nothing is deferred, and the policy decides.
func TestDeferUndeclared(t *testing.T) {
	r := testReader(inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		if held, ok := p.Defer(time.Second); ok || held.Release(accept()) {
			t.Error("deferred")
		}
		return inspect.Verdict{Action: inspect.Defer}
	}))
	r.SetFailOpen(false)
	var b batch
	answers := r.session.answerAll(&b, [][]byte{messageOf(t, 1, false)})
	if !slices.Equal(answers, []single{{1, verdictDrop}}) {
		t.Errorf("answered %v", answers)
	}
}

// At its limit a packet gets the policy's verdict of that time, oldest first.
func TestDeferralsExpire(t *testing.T) {
	d := newDeferring(t, false)
	d.deferred = []uint32{1, 2}
	d.batch(1)
	d.now += time.Second / 2
	d.batch(2)
	d.now += time.Second/2 - 1
	d.deferrals.expire()
	d.answered([]uint32{1, 2})
	d.now++
	d.SetFailOpen(false)
	d.deferrals.expire()
	d.answered([]uint32{1, 2}, -1)
	if d.held[1].Release(accept()) {
		t.Error("released after the limit")
	}
	if due := d.deferrals.due; due != time.Hour+3*time.Second/2 {
		t.Errorf("the timer runs at %s", due)
	}
	d.now += time.Hour
	d.SetFailOpen(true)
	d.deferrals.expire()
	d.answered([]uint32{2}, 2)
	d.done(2, 2, 0)
	if due := d.deferrals.due; due != 0 {
		t.Errorf("the timer runs at %s", due)
	}
}

// A quarter of a queue of 40 packets may be deferred; the inspector learns that no more
// can be.
func TestDeferralsBound(t *testing.T) {
	d := newDeferring(t, false)
	d.SetFailOpen(false)
	refused := 0
	d.say = func(p *inspect.Packet) inspect.Verdict {
		held, ok := p.Defer(time.Hour)
		d.held[p.ID] = held
		if !ok {
			refused++
		}
		return inspect.Verdict{Action: inspect.Defer}
	}
	ids := make([]uint32, 12)
	for i := range ids {
		ids[i] = uint32(i + 1)
	}
	d.batch(ids...)
	if refused != 2 {
		t.Errorf("%d refused", refused)
	}
	d.answered(ids, -11, -12)
	d.now += inspect.MaxDefer
	d.deferrals.expire()
	d.answered(ids[:10], -1, -2, -3, -4, -5, -6, -7, -8, -9, -10)
	d.done(10, 10, 2)
}

// The bytes that are kept are bounded, too, where the packets are kept whole.
func TestDeferralsBoundBytes(t *testing.T) {
	d := newDeferring(t, false)
	d.queue.config.Modifies = true
	d.deferrals.bytes = maxDeferredBytes - 4
	d.say = func(p *inspect.Packet) inspect.Verdict {
		if _, ok := p.Defer(time.Second); ok {
			t.Error("deferred")
		}
		return accept()
	}
	d.batch(1)
	d.answered([]uint32{1}, 1)
	d.deferrals.bytes = 0
	d.done(0, 0, 1)
}

// What ends deferring answers each packet once, by the policy or as it was released,
// also those of a batch that is being inspected.
func TestDeferralsEnd(t *testing.T) {
	for name, end := range map[string]func(*Reader){
		"End":          (*Reader).End,
		"EndDeferrals": (*Reader).EndDeferrals,
		"Close":        func(r *Reader) { _ = r.queue.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeferring(t, false)
			d.SetFailOpen(false)
			d.deferred = []uint32{1, 2, 3}
			d.batch(1)
			d.say = func(p *inspect.Packet) inspect.Verdict {
				switch p.ID {
				case 3:
					d.held[2].Release(accept())
					end(d.Reader)
				case 4:
					if _, ok := p.Defer(time.Second); ok {
						t.Error("deferred after the end")
					}
				}
				return inspect.Verdict{Action: inspect.Defer}
			}
			d.batch(2, 3, 4)
			d.answered([]uint32{1, 2, 3, 4}, -1, 2, -3, -4)
			end(d.Reader)
			d.answered(nil)
			d.done(2, 1, 0)
		})
	}
}

// Packets are answered before their queue is bound anew, whose IDs begin again.
func TestDeferralsOfQueueThatIsBoundAgain(t *testing.T) {
	d := newDeferring(t, false)
	d.deferred = []uint32{1}
	d.batch(1)
	d.queue.deferred().answerAll()
	d.answered([]uint32{1}, 1)
	if d.held[1].Release(accept()) {
		t.Error("released")
	}
	d.batch(1)
	d.answered([]uint32{1})
	d.EndDeferrals()
	d.answered([]uint32{1}, 1)
	d.done(2, 2, 0)
}

// An overrun leaves what is deferred to the policy, with the batch. The session that
// comes back defers nothing and releases nothing.
func TestDeferralsAndOverrun(t *testing.T) {
	d := newDeferring(t, false)
	d.deferred = []uint32{1, 2, 3}
	d.batch(1)
	old := d.session
	d.say = func(p *inspect.Packet) inspect.Verdict {
		if p.ID == 2 {
			d.now += time.Minute
			if superseded, err := d.supersede(time.Second); !superseded || err != nil {
				t.Errorf("superseded %t, %v", superseded, err)
			}
			d.answered([]uint32{1, 2, 3}, 1, 2, 3)
		}
		if _, ok := p.Defer(time.Second); ok != (p.ID == 4) {
			t.Errorf("packet %d: deferred %t", p.ID, ok)
		}
		return inspect.Verdict{Action: inspect.Defer}
	}
	d.deferred = []uint32{2}
	old.verdicts.reset(nil, 80)
	old.begin(messageOf(t, 3, false))
	old.handle(messageOf(t, 2, false))
	old.handle(messageOf(t, 3, false))
	if err := old.send(uintptr(d.wire.ours), &d.in); err == nil {
		t.Error("the old session has answered")
	}
	d.deferred = nil
	d.batch(4)
	d.answered([]uint32{4})
	d.EndDeferrals()
	d.answered([]uint32{4}, 4)
	d.done(2, 2, 0)
}

// Keeping a packet and releasing it allocate nothing once there was as much before.
func TestDeferDoesNotAllocate(t *testing.T) {
	d := newDeferring(t, false)
	var held inspect.Deferred
	d.say = func(p *inspect.Packet) inspect.Verdict {
		held, _ = p.Defer(time.Second)
		return inspect.Verdict{Action: inspect.Defer}
	}
	m, buf := messageOf(t, 1, false), make([]byte, 1<<16)
	n := testing.AllocsPerRun(1000, func() {
		s := d.session
		s.verdicts.reset(d.in.verdicts, 80)
		s.begin(m)
		s.handle(m)
		if s.send(uintptr(d.wire.ours), &d.in) != nil || !held.Release(accept()) {
			t.Error("not released")
		}
		if _, err := unix.Read(d.wire.kernels, buf); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	d.done(1001, 0, 0)
}

// The ends of a flow are told of a deferred packet that is rejected, also while its
// batch is inspected.
func TestRejectDeferred(t *testing.T) {
	d := newDeferring(t, false)
	rejecter := &testRejecter{before: func() { d.answered([]uint32{1, 2}) }}
	d.options.Rejecter = rejecter
	d.deferred = []uint32{1, 2}
	reject := inspect.Verdict{Action: inspect.Reject}
	d.say = func(p *inspect.Packet) inspect.Verdict {
		if p.ID == 3 {
			d.held[2].Release(reject)
			return accept()
		}
		return inspect.Verdict{Action: inspect.Defer}
	}
	d.batch(1, 2, 3)
	d.answered([]uint32{1, 2, 3}, -2, 3)
	if !d.held[1].Release(reject) {
		t.Error("not released")
	}
	d.answered([]uint32{1}, -1)
	d.done(2, 0, 0)
	if c := &d.Counters; len(rejecter.marks) != 2 || c.Rejected.Load() != 2 || c.Dropped.Load() != 0 {
		t.Errorf("%d told, %d rejected, %d dropped", len(rejecter.marks), c.Rejected.Load(),
			c.Dropped.Load())
	}
}
