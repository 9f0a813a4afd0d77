// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// attended is queue 80, read by a poller with an attendant.
type attended struct {
	*fixture

	queue     *nfqueue.Queue
	reader    *nfqueue.Reader
	poller    *nfqueue.Poller
	attendant *nfqueue.Attendant
	runs      []chan error
}

func newAttended(t *testing.T, failOpen bool, i inspect.Func) *attended {
	f := newFixture(t)
	a := &attended{fixture: f, queue: f.bind(80)}
	var err error
	a.reader, err = nfqueue.NewReader(a.queue, failOpen, options(i))
	f.must(err)
	o := nfqueue.PollerOptions{
		CopyRange: nfqueue.MaxCopyRange,
		Seats:     nfqueue.NewSeats(1), Offers: nfqueue.NewOffers(),
	}
	a.poller, err = nfqueue.NewPoller(o)
	f.must(err)
	f.must(a.poller.Add(a.reader))
	a.attendant = nfqueue.NewAttendant(o)
	a.run(a.poller.Run)
	a.run(a.attendant.Run)
	t.Cleanup(func() {
		if err := a.queue.Close(); !errors.Is(err, os.ErrClosed) {
			f.must(err)
		}
		f.must(a.poller.Stop())
		f.must(a.attendant.Stop())
		for _, done := range a.runs {
			f.must(<-done)
		}
		f.must(a.poller.Free())
	})
	return a
}

func (a *attended) run(f func() error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	a.runs = append(a.runs, done)
}

// pass has datagrams pass one by one.
func (a *attended) pass(n int) {
	a.Helper()
	for i := range n {
		a.send(1)
		if a.arrive(1, reply) != 1 {
			a.Fatalf("datagram %d of %d did not arrive", i, n)
		}
	}
}

// engage has datagrams pass until the attendant has the queue.
func (a *attended) engage() {
	a.Helper()
	for range 1000 {
		if !a.attendant.Idle() {
			return
		}
		a.pass(1)
	}
	a.Fatal("the attendant takes no queue")
}

// release waits until the poller has the queue again.
func (a *attended) release() {
	a.Helper()
	if !nstest.Poll(reply, a.attendant.Idle) {
		a.Fatal("the attendant keeps a queue without packets")
	}
}

func accept(*inspect.Packet) inspect.Verdict { return inspect.Verdict{Action: inspect.Accept} }

// A queue whose packets keep coming goes to the attendant, and back when they
// have stopped, again and again.
func TestAttendant(t *testing.T) {
	a := newAttended(t, false, accept)
	for range 3 {
		a.engage()
		a.pass(100)
		a.release()
		a.pass(1)
	}
	if c := &a.reader.Counters; c.Packets.Load() != c.Accepted.Load() || c.Errors.Load() != 0 {
		t.Errorf("%d packets, %d accepted, %d errors", c.Packets.Load(), c.Accepted.Load(),
			c.Errors.Load())
	}
	if err := a.reader.Err(); err != nil {
		t.Error(err)
	}
}

// An inspector that hangs costs an attendant no more than a poller.
func TestAttendantIsRelieved(t *testing.T) {
	var hang atomic.Bool
	hangs, release := make(chan struct{}), make(chan struct{})
	a := newAttended(t, true, func(p *inspect.Packet) inspect.Verdict {
		if hang.CompareAndSwap(true, false) {
			hangs <- struct{}{}
			<-release
		}
		return accept(p)
	})
	for held := false; !held; {
		a.engage()
		hang.Store(true)
		a.send(1)
		<-hangs
		if held = !a.attendant.Idle(); !held { // it was late, and the poller has it
			release <- struct{}{}
			a.arrive(1, reply)
		}
	}
	if relieved, err := a.poller.Relieve(time.Nanosecond); relieved != nil || err != nil {
		t.Errorf("the poller was relieved of a reader it has not: %v", err)
	}
	relieved, err := a.attendant.Relieve(time.Nanosecond)
	a.must(err)
	if relieved != a.reader {
		t.Fatal("not relieved")
	}
	old := a.runs[1]
	a.runs = a.runs[:1]
	a.run(a.attendant.Run)
	if a.arrive(1, reply) != 1 {
		t.Error("the held datagram did not arrive")
	}
	a.pass(3)
	a.engage()
	release <- struct{}{}
	if err := <-old; !errors.Is(err, nfqueue.ErrRelieved) {
		t.Errorf("the relieved run: %v", err)
	}
	a.pass(3)
	if c := &a.reader.Counters; c.Overruns.Load() != 1 || c.Errors.Load() != 0 {
		t.Errorf("%d overruns, %d errors", c.Overruns.Load(), c.Errors.Load())
	}
}

// A queue may be closed while it is attended.
func TestAttendedIsClosed(t *testing.T) {
	a := newAttended(t, false, accept)
	a.engage()
	a.must(a.queue.Close())
	a.must(a.bind(80).Close()) // nobody has it any more
	a.release()
	if err := a.reader.Err(); err != nil {
		t.Errorf("a reader whose queue was closed: %v", err)
	}
}

// What an attendant that stops has left goes on without it.
func TestAttendantStops(t *testing.T) {
	a := newAttended(t, false, accept)
	a.engage()
	a.must(a.attendant.Stop())
	a.pass(100)
	a.must(<-a.runs[1])
	a.runs = a.runs[:1]
	a.pass(100)
}
