// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nfqueue_test

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// callers call methods again and again, each in a goroutine of its own, until end.
// From closing on, a method that fails is called no more.
type callers struct {
	*fixture
	closing, end chan struct{}
	running      sync.WaitGroup
}

func (c *callers) call(name string, fn func() error) {
	c.running.Go(func() {
		for !isClosed(c.end) {
			err := fn()
			if err != nil && isClosed(c.closing) {
				return
			}
			if err != nil {
				c.Errorf("%s: %v", name, err)
				return
			}
		}
	})
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// callQueue calls what may be called beside Bind.
func (c *callers) callQueue(q *nfqueue.Queue) {
	c.call("SetReceiveBuffer", func() error {
		return q.SetReceiveBuffer(nfqueue.DefaultReceiveBuffer / 2)
	})
	c.call("InterfaceIndex", func() error {
		_, err := q.InterfaceIndex("lo")
		return err
	})
	c.call("HasInterface", func() error { return q.HasInterface(1) })
	c.call("Stat", func() error {
		_, _, err := q.Stat(c.ns)
		return err
	})
	c.call("Config and File", func() error {
		if q.Config().Number != 80 || q.File() == nil {
			return errors.New("another queue's")
		}
		return nil
	})
}

// callBound calls what changes a queue that is bound.
func (c *callers) callBound(q *nfqueue.Queue) {
	c.call("SetFailOpen", func() error {
		return errors.Join(q.SetFailOpen(true), q.SetFailOpen(false))
	})
	c.call("SetCopyRange", func() error {
		return errors.Join(q.SetCopyRange(100), q.SetCopyRange(nfqueue.MaxCopyRange))
	})
	c.call("SetSocketUID", func() error {
		return errors.Join(q.SetSocketUID(true), q.SetSocketUID(false))
	})
	c.call("Rebind", func() error { return q.Rebind(c.ns) })
	c.call("AnswerAll", func() error { return q.AnswerAll(10, true) })
}

// callReader calls the methods of a reader and its poller.
func (c *callers) callReader(r *nfqueue.Reader, p *nfqueue.Poller) {
	c.call("Supersede", func() error {
		_, err := p.Supersede(reply)
		return err
	})
	c.call("the reader's", func() error {
		r.SetFailOpen(true)
		r.SetSettle(0, 0)
		_ = r.Busy()
		_ = r.Answered(1)
		_ = r.TakePanic()
		return r.Err()
	})
}

// Methods of a queue are called beside Bind, beside a reader's turns, beside one
// another, and beside Close.
func TestQueueMethodsBesideEachOther(t *testing.T) {
	f := newFixture(t)
	q, err := nfqueue.Open(f.ns, config(80))
	f.must(err)
	c := &callers{fixture: f, closing: make(chan struct{}), end: make(chan struct{})}
	c.callQueue(q)
	f.must(q.SetFailOpen(true)) // the kernel refuses it, and Bind does not take its reply
	f.must(q.Bind())
	c.callBound(q)
	r, err := nfqueue.NewReader(q, true, options(verdict(inspect.Verdict{Action: inspect.Accept})))
	f.must(err)
	p := f.serve(q, r, nfqueue.PollerOptions{
		CopyRange: nfqueue.MaxCopyRange, HotWaits: nfqueue.NewHotWaits(1),
	})
	c.callReader(r, p)
	f.send(50)
	if got := f.arrive(50, reply); got != 50 {
		t.Errorf("%d of 50 datagrams arrived", got)
	}
	f.send(10)
	close(c.closing)
	f.must(q.Close())
	close(c.end)
	c.running.Wait()
	f.checkClosed(q, r, p)
	f.must(f.bind(80).Close()) // the number is free again
}

// checkClosed checks that nothing works on a closed queue, and that its reader has
// not failed.
func (f *fixture) checkClosed(q *nfqueue.Queue, r *nfqueue.Reader, p *nfqueue.Poller) {
	f.Helper()
	if err := q.Close(); !errors.Is(err, os.ErrClosed) {
		f.Errorf("closed again: %v", err)
	}
	for name, err := range map[string]error{
		"SetReceiveBuffer": q.SetReceiveBuffer(nfqueue.MinReceiveBuffer), "Rebind": q.Rebind(f.ns),
		"SetFailOpen": q.SetFailOpen(true), "SetSocketUID": q.SetSocketUID(true), "Unbind": q.Unbind(), "AnswerAll": q.AnswerAll(1, true),
		"HasInterface": q.HasInterface(1), "Add": p.Add(r),
	} {
		if err == nil {
			f.Errorf("%s works on a closed queue", name)
		}
	}
	if err := r.Err(); err != nil {
		f.Errorf("a reader whose queue was closed: %v", err)
	}
	nstest.Eventually(f.TB, reply, "the poller is idle", p.Idle)
}

// Close does not wait for an inspector, whatever the socket was to the process
// that had it before. The turn goes on to its end.
func TestCloseDoesNotWait(t *testing.T) {
	f := newFixture(t)
	q := f.bind(80)
	socket := nonblocking(t, q.File())
	f.must(q.Close())
	q, err := nfqueue.OpenInherited(socket, config(80))
	f.must(err)
	hangs, release := make(chan struct{}), make(chan struct{})
	r, err := nfqueue.NewReader(q, false, options(func(*inspect.Packet) inspect.Verdict {
		hangs <- struct{}{}
		<-release
		return inspect.Verdict{Action: inspect.Accept}
	}))
	f.must(err)
	p := f.serve(q, r, nfqueue.PollerOptions{CopyRange: nfqueue.MaxCopyRange})
	f.send(1)
	<-hangs
	done := make(chan error, 1)
	go func() { done <- q.Close() }()
	select {
	case err := <-done:
		f.must(err)
	case <-time.After(reply):
		t.Error("Close waits for the inspector")
	}
	release <- struct{}{}
	if got := f.arrive(1, reply); got != 1 {
		t.Error("the datagram that was being inspected did not arrive")
	}
	nstest.Eventually(t, reply, "the poller is idle", p.Idle)
}

// nonblocking returns a copy of the file that the runtime's poller waits for.
func nonblocking(t *testing.T, file *os.File) *os.File {
	t.Helper()
	set := func(fd int) error { return syscall.SetNonblock(fd, true) }
	if err := fdcontrol.Do(file, set); err != nil {
		t.Fatal(err)
	}
	dup, err := fdcontrol.Duplicate(file, "inherited")
	if err != nil {
		t.Fatal(err)
	}
	return dup
}
