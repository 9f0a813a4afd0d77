// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func accepted() inspect.Verdict { return inspect.Verdict{Action: inspect.Accept} }

func deferred() inspect.Verdict { return inspect.Verdict{Action: inspect.Defer} }

// bindDeferring binds queue 80 for an inspector that defers verdicts.
func (f *fixture) bindDeferring(length uint32) *nfqueue.Queue {
	f.Helper()
	c := config(80)
	c.Defers, c.Length = true, length
	q, err := nfqueue.Open(f.ns, c)
	f.must(err)
	f.must(q.Bind())
	return q
}

// number is what a datagram of sendNumbers has for its payload.
func number(p *inspect.Packet) uint32 { return binary.BigEndian.Uint32(p.Payload[28:]) }

func (f *fixture) sendNumbers(from, to uint32) {
	f.Helper()
	for n := from; n <= to; n++ {
		_, err := f.from.Write(binary.BigEndian.AppendUint32(nil, n))
		f.must(err)
	}
}

// receive checks which datagrams of sendNumbers arrive next.
func (f *fixture) receive(want ...uint32) {
	f.Helper()
	buf := make([]byte, 64)
	for _, n := range want {
		f.must(f.to.SetReadDeadline(time.Now().Add(reply)))
		if _, err := f.to.Read(buf); err != nil || binary.BigEndian.Uint32(buf) != n {
			f.Fatalf("received %d, %v, want %d", binary.BigEndian.Uint32(buf), err, n)
		}
	}
}

// silent checks that nothing more arrives.
func (f *fixture) silent() {
	f.Helper()
	if f.arrive(1, silence) != 0 {
		f.Error("a datagram arrived too early, or again")
	}
}

// answeredOnce checks that the kernel knew each packet that it got a verdict about.
func (f *fixture) answeredOnce(r *nfqueue.Reader) {
	f.Helper()
	before := r.Counters.Packets.Load()
	f.send(1) // errors come before the next packet
	nstest.Eventually(f.TB, reply, "the last packet is answered", func() bool {
		return r.Counters.Packets.Load() > before
	})
	if c := &r.Counters; c.Flushed.Load() != 0 || c.Errors.Load() != 0 {
		f.Errorf("%d verdicts too many, %d other errors", c.Flushed.Load(), c.Errors.Load())
	}
}

// Packets that are deferred wait while others pass, in batches and one by one, and go
// on in the order of their release.
func TestDefer(t *testing.T) {
	f := newFixture(t)
	q := f.bindDeferring(nfqueue.DefaultLength)
	held := make(chan inspect.Deferred, 10)
	f.sendNumbers(1, 20) // come in batches
	r := f.run(q, false, func(p *inspect.Packet) inspect.Verdict {
		if n := number(p); n == 2 || n == 3 || n == 15 {
			d, ok := p.Defer(time.Minute)
			if !ok {
				t.Errorf("packet %d is not deferred", n)
			}
			held <- d
			return deferred()
		}
		return accepted()
	})
	f.receive(1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20)
	f.sendNumbers(21, 40)
	for n := range uint32(20) {
		f.receive(21 + n)
	}
	second, third, fifteenth := <-held, <-held, <-held
	for _, d := range []inspect.Deferred{fifteenth, second} {
		if !d.Release(accepted()) || d.Release(accepted()) {
			t.Error("not released once")
		}
	}
	f.receive(15, 2)
	f.silent()
	if !third.Release(inspect.Verdict{Action: inspect.Drop}) {
		t.Error("not released")
	}
	f.silent()
	f.answeredOnce(r)
}

// At the limit the policy decides.
func TestDeferLimit(t *testing.T) {
	for _, failOpen := range []bool{true, false} {
		f := newFixture(t)
		r := f.run(f.bindDeferring(nfqueue.DefaultLength), failOpen, func(p *inspect.Packet) inspect.Verdict {
			if number(p) > 3 {
				return accepted()
			}
			_, _ = p.Defer(time.Duration(number(p)) * time.Millisecond)
			return deferred()
		})
		f.sendNumbers(1, 3)
		if failOpen {
			f.receive(1, 2, 3)
		}
		nstest.Eventually(t, reply, "all expire", func() bool { return r.Counters.Expired.Load() == 3 })
		f.silent()
		f.answeredOnce(r)
	}
}

// A queue has room for others while as much is deferred as may be.
func TestDeferBound(t *testing.T) {
	f := newFixture(t)
	r := f.run(f.bindDeferring(40), false, func(p *inspect.Packet) inspect.Verdict {
		if _, ok := p.Defer(time.Minute); ok {
			return deferred()
		}
		return accepted()
	})
	for n := range uint32(20) {
		f.sendNumbers(n, n)
		if n >= 10 {
			f.receive(n)
		}
	}
	if c := &r.Counters; c.Deferred.Load() != 10 || c.Undeferred.Load() != 10 {
		t.Errorf("%d deferred, %d not", c.Deferred.Load(), c.Undeferred.Load())
	}
	r.EndDeferrals()
	f.silent()
	f.answeredOnce(r)
}

// Whatever happens to the reader, each packet that it keeps has one verdict.
func TestDeferralsAreAnswered(t *testing.T) {
	for name, end := range map[string]func(*fixture, *nfqueue.Queue, *nfqueue.Reader){
		"end":    func(_ *fixture, _ *nfqueue.Queue, r *nfqueue.Reader) { r.End() },
		"rebind": func(f *fixture, q *nfqueue.Queue, _ *nfqueue.Reader) { f.must(q.Rebind(f.ns)) },
		"close":  func(f *fixture, q *nfqueue.Queue, _ *nfqueue.Reader) { f.must(q.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			q := f.bindDeferring(nfqueue.DefaultLength)
			held := make(chan inspect.Deferred, 2)
			r := f.run(q, true, func(p *inspect.Packet) inspect.Verdict {
				if number(p) > 2 {
					return accepted()
				}
				d, _ := p.Defer(time.Minute)
				held <- d
				return deferred()
			})
			f.sendNumbers(1, 3)
			f.receive(3)
			end(f, q, r)
			f.receive(1, 2)
			for range 2 {
				if (<-held).Release(accepted()) {
					t.Error("released after the end")
				}
			}
			if name == "end" { // a queue that is bound refuses to be bound
				f.answeredOnce(r)
			}
		})
	}
}

// What a reader that hands its queue over has deferred is answered before: the next
// one finds no orphans. A reader that dies leaves it as one.
func TestDeferralsOfInheritedQueue(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		f := newFixture(t)
		q := f.bindDeferring(nfqueue.DefaultLength)
		copied, err := fdcontrol.Duplicate(q.File(), "copy")
		f.must(err)
		r := f.run(q, true, func(p *inspect.Packet) inspect.Verdict {
			_, _ = p.Defer(time.Minute)
			return deferred()
		})
		f.sendNumbers(1, 2)
		nstest.Eventually(t, reply, "both are deferred", func() bool {
			return r.Counters.Deferred.Load() == 2 && !r.Busy()
		})
		orphans := 2
		if orderly {
			r.End()
			f.must(q.Close())
			orphans = 0
		}
		c := config(80)
		next, err := nfqueue.OpenInherited(copied, c)
		f.must(err)
		if n, err := next.AnswerOrphans(f.ns, true); n != orphans || err != nil {
			t.Errorf("orderly %t: %d orphans, %v", orderly, n, err)
		}
		f.receive(1, 2)
		f.must(next.Close())
	}
}

// What was deferred goes with the batch of an inspector that overruns.
func TestDeferralsOfSuperseded(t *testing.T) {
	f := newFixture(t)
	q := f.bindDeferring(nfqueue.DefaultLength)
	hangs, release := make(chan inspect.Deferred), make(chan struct{})
	r, err := nfqueue.NewReader(q, true, options(func(p *inspect.Packet) inspect.Verdict {
		d, _ := p.Defer(time.Minute)
		if number(p) == 2 {
			hangs <- d
			<-release
		}
		return deferred()
	}))
	f.must(err)
	p, err := nfqueue.NewPoller(nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	f.must(err)
	f.must(p.Add(r))
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- p.Run() }()
	f.sendNumbers(1, 2)
	d := <-hangs
	if superseded, err := p.Supersede(time.Nanosecond); superseded != r || err != nil {
		t.Fatalf("not superseded: %v", err)
	}
	go func() { second <- p.Run() }()
	f.receive(1, 2)
	if d.Release(accepted()) {
		t.Error("released after the overrun")
	}
	close(release)
	if err := <-first; !errors.Is(err, nfqueue.ErrSuperseded) {
		t.Errorf("the superseded run: %v", err)
	}
	f.sendNumbers(3, 3)
	nstest.Eventually(t, reply, "the next is deferred", func() bool {
		return r.Counters.Deferred.Load() >= 1 && !r.Busy()
	})
	r.EndDeferrals()
	f.receive(3)
	f.answeredOnce(r)
	f.must(q.Close())
	f.must(p.Stop())
	f.must(<-second)
	f.must(p.Close())
}

// Under traffic, goroutines release in any order while limits pass and the deferring
// ends: each packet has one verdict.
func TestDeferUnderTraffic(t *testing.T) {
	const packets = 20_000
	f := newFixture(t)
	q := f.bindDeferring(nfqueue.DefaultLength)
	held := make(chan inspect.Deferred, packets)
	random := rand.New(rand.NewPCG(1, 2))
	r := f.run(q, false, func(p *inspect.Packet) inspect.Verdict {
		if random.IntN(3) == 0 {
			return accepted()
		}
		d, ok := p.Defer(time.Duration(random.IntN(3)) * time.Millisecond)
		if !ok {
			return accepted()
		}
		held <- d
		return deferred()
	})
	var releasing sync.WaitGroup
	for range 2 {
		releasing.Go(func() {
			for d := range held {
				d.Release(accepted())
			}
		})
	}
	for n := range uint32(packets) {
		f.sendNumbers(n, n)
		if n == packets*3/4 {
			r.EndDeferrals()
		}
	}
	c := &r.Counters
	nstest.Eventually(t, reply, "all are answered", func() bool {
		stat, _, err := q.Stat(f.ns)
		f.must(err)
		return stat.Waiting == 0 && !r.Busy()
	})
	close(held)
	releasing.Wait()
	seen, answered := c.Packets.Load(), c.Accepted.Load()+c.Dropped.Load()
	stat, _, err := q.Stat(f.ns)
	f.must(err)
	lost := stat.QueueDropped + stat.UserDropped
	if seen != answered || seen+lost != packets || c.Deferred.Load() == 0 {
		t.Errorf("%d packets, %d answered, %d lost, %d deferred", seen, answered, lost,
			c.Deferred.Load())
	}
	t.Logf("%d deferred, %d expired, %d refused, %d lost", c.Deferred.Load(), c.Expired.Load(),
		c.Undeferred.Load(), lost)
	f.answeredOnce(r)
}
