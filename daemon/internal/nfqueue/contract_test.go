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

// callers call methods again and again, each in a goroutine of its own.
type callers struct {
	*testing.T
	stop    chan struct{}
	running sync.WaitGroup
}

func newCallers(t *testing.T) *callers { return &callers{T: t, stop: make(chan struct{})} }

// call calls fn until wait, or until an error that allowed does not allow.
func (c *callers) call(name string, allowed func(error) bool, fn func() error) {
	c.running.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
			}
			if err := fn(); err != nil {
				if !allowed(err) {
					c.Errorf("%s: %v", name, err)
				}
				return
			}
		}
	})
}

func (c *callers) wait() {
	close(c.stop)
	c.running.Wait()
}

// Methods of a queue are called beside Bind, beside a reader's turns, beside one
// another, and beside Close.
func TestQueueMethodsBesideEachOther(t *testing.T) {
	f := newFixture(t)
	q, err := nfqueue.Open(f.ns, config(80))
	f.must(err)
	closing := make(chan struct{})
	allowed := func(error) bool { // once it is closed
		select {
		case <-closing:
			return true
		default:
			return false
		}
	}
	c := newCallers(t)
	c.call("SetReceiveBuffer", allowed, func() error {
		return q.SetReceiveBuffer(nfqueue.DefaultReceiveBuffer / 2)
	})
	c.call("InterfaceIndex", allowed, func() error {
		_, err := q.InterfaceIndex("lo")
		return err
	})
	c.call("HasInterface", allowed, func() error { return q.HasInterface(1) })
	c.call("Stat", allowed, func() error {
		_, _, err := q.Stat(f.ns)
		return err
	})
	c.call("Config and File", allowed, func() error {
		if q.Config().Number != 80 || q.File() == nil {
			return errors.New("another queue's")
		}
		return nil
	})
	f.must(q.SetFailOpen(true)) // the kernel refuses it, and Bind does not take its reply
	f.must(q.Bind())
	c.call("SetFailOpen", allowed, func() error {
		return errors.Join(q.SetFailOpen(true), q.SetFailOpen(false))
	})
	c.call("Rebind", allowed, func() error { return q.Rebind(f.ns) })
	r, err := nfqueue.NewReader(q, true, options(verdict(inspect.Verdict{Action: inspect.Accept})))
	f.must(err)
	p := f.serve(q, r, nfqueue.PollerOptions{
		CopyRange: nfqueue.MaxCopyRange, HotWaits: nfqueue.NewHotWaits(1),
	})
	c.call("AnswerAll", allowed, func() error { return q.AnswerAll(10, true) })
	c.call("Supersede", allowed, func() error {
		_, err := p.Supersede(reply)
		return err
	})
	c.call("the reader's", allowed, func() error {
		r.SetFailOpen(true)
		r.SetSettle(0, 0)
		_ = r.Busy()
		_ = r.TakePanic()
		return r.Err()
	})
	f.send(50)
	if got := f.arrive(50, reply); got != 50 {
		t.Errorf("%d of 50 datagrams arrived", got)
	}
	f.send(10)
	close(closing)
	f.must(q.Close())
	if err := q.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	c.wait()
	for name, err := range map[string]error{
		"SetReceiveBuffer": q.SetReceiveBuffer(nfqueue.MinReceiveBuffer), "Rebind": q.Rebind(f.ns),
		"SetFailOpen": q.SetFailOpen(true), "Unbind": q.Unbind(), "AnswerAll": q.AnswerAll(1, true),
		"HasInterface": q.HasInterface(1), "Add": p.Add(r),
	} {
		if err == nil {
			t.Errorf("%s works on a closed queue", name)
		}
	}
	if err := r.Err(); err != nil {
		t.Errorf("a reader whose queue was closed: %v", err)
	}
	nstest.Eventually(t, reply, "the poller is idle", p.Idle)
	f.must(f.bind(80).Close()) // the number is free again
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
		t.Error("the datagram that was in hand did not arrive")
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
