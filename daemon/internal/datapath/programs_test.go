// SPDX-License-Identifier: Apache-2.0

//go:build netns

package datapath

import (
	"errors"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore/fdstoretest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const programQueue = 90

func accepts(failOpen bool) bool { return failOpen }

// copyOf returns a copy of the socket of a program that reads a queue.
func copyOf(t *testing.T, q *nfqueue.Queue, number uint16) *nfqueue.Copy {
	t.Helper()
	f, err := fdcontrol.Duplicate(q.File(), "copy")
	nstest.Must(t, err)
	c, err := nfqueue.NewCopy(f, number)
	nstest.Must(t, err)
	return c
}

// A program that was added twice is open when it is opened, and gone when it is removed.
func TestProgramIsAddedOnce(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, nil)
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	p := Program{Queue: programQueue, Queues: 1, Accepts: accepts}
	d.AddProgram(p, false)
	d.AddProgram(p, false)
	if got := d.away(); len(got) != 1 {
		t.Errorf("away: %v, want one queue", got)
	}
	q := n.foreignQueue(pod, programQueue)
	defer q.Close()
	nstest.Must(t, d.OpenProgram(programQueue, []*nfqueue.Copy{copyOf(t, q, programQueue)}))
	if got := d.away(); len(got) != 0 {
		t.Errorf("away while it is open: %v", got)
	}
	_, err := d.CloseProgram(programQueue)
	nstest.Must(t, err)
	d.RemoveProgram(programQueue)
	if got := d.away(); len(got) != 0 || d.program(programQueue) != nil {
		t.Errorf("after it was removed: away %v", got)
	}
	nstest.Must(t, d.Down(false))
}

// A program that cannot be opened is as before, and can be opened later.
func TestOpenProgramFails(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	b := &brokenHook{Hook: n.hook}
	n.hook = b
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	d.AddProgram(Program{Queue: programQueue, Queues: 1, Direct: true, Accepts: accepts}, false)
	q := n.foreignQueue(pod, programQueue)
	defer q.Close()
	p := d.program(programQueue)
	open := func() error {
		c := copyOf(t, q, programQueue)
		err := d.OpenProgram(programQueue, []*nfqueue.Copy{c})
		if err != nil {
			nstest.Must(t, c.Close()) // it is ours
		}
		return err
	}
	b.arm = errors.New("broken")
	if err := open(); !errors.Is(err, b.arm) {
		t.Errorf("%v, want %v", err, b.arm)
	}
	if p.open || len(p.copies) != 0 || len(d.away()) != 1 {
		t.Errorf("after the error: %+v, away %v", p, d.away())
	}
	s.Await(2)
	b.arm = nil
	nstest.Must(t, d.FindFault())
	for range 2 { // the second copy is not needed
		nstest.Must(t, open())
		if !p.open || len(p.copies) != 1 || len(d.away()) != 0 {
			t.Errorf("opened: %+v, away %v", p, d.away())
		}
		s.Await(3)
		nstest.Must(t, d.FindFault())
	}
	b.arm = errors.New("broken")
	nstest.Must(t, q.Unbind())
	other := n.foreignQueue(pod, programQueue)
	defer other.Close()
	if c := copyOf(t, other, programQueue); d.OpenProgram(programQueue, []*nfqueue.Copy{c}) == nil ||
		p.open || len(p.copies) != 0 {
		t.Errorf("after an error with another socket: %+v", p)
	}
	s.Await(2)
	b.arm = nil
	nstest.Must(t, d.Repair(d.Netns()))
	nstest.Must(t, d.Down(false))
}

// A program that begins to read is not another reader; a socket that has its number for
// long is.
func TestProgramIsNoForeignReader(t *testing.T) {
	n := start(t, inspect.AcceptAll{}, func(n *node) {
		n.selector.Settle = hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024}
	})
	pod, _ := nstest.Pair(t)
	d := n.up(pod)
	d.AddProgram(Program{Queue: programQueue, Queues: 2, Accepts: accepts}, false)
	verify := func(when string, foreign bool) {
		t.Helper()
		found := d.Verify(d.Netns())
		if found.Fault != nil || found.ForeignReader != foreign || found.SettlingEnded != foreign {
			t.Errorf("%s: %+v, want a foreign reader: %t", when, found, foreign)
		}
	}
	q := n.foreignQueue(pod, programQueue)
	defer q.Close()
	verify("when it is bound", false)
	nstest.Must(t, d.OpenProgram(programQueue, []*nfqueue.Copy{copyOf(t, q, programQueue)}))
	verify("when it is open", false)
	verify("when it is still open", false)
	_, err := d.CloseProgram(programQueue)
	nstest.Must(t, err)
	for range 2 {
		next := n.foreignQueue(pod, programQueue)
		verify("when another process has bound it", false)
		nstest.Must(t, next.Close())
	}
	last := n.foreignQueue(pod, programQueue)
	defer last.Close()
	verify("when yet another has", false)
	verify("when that is not opened", true)
	nstest.Must(t, d.Down(false))
}

// Each queue of a program is inherited, also where one socket has bound them all.
func TestOneSocketOfSeveralQueues(t *testing.T) {
	s := fdstoretest.New(t)
	n := start(t, inspect.AcceptAll{}, nil)
	n.restart(s)
	pod, peer := nstest.Pair(t)
	d := n.up(pod)
	first := n.foreignQueue(pod, programQueue)
	defer first.Close()
	f, err := fdcontrol.Duplicate(first.File(), "second")
	nstest.Must(t, err)
	second, err := nfqueue.OpenInherited(f, nfqueue.Config{
		Number: programQueue + 1, Length: 1, CopyRange: 1, ReceiveBuffer: 1 << 16,
	})
	nstest.Must(t, err)
	defer second.Close()
	nstest.Must(t, second.Bind())
	p := Program{Queue: programQueue, Queues: 2, Accepts: accepts}
	d.AddProgram(p, false)
	nstest.Must(t, d.OpenProgram(programQueue, []*nfqueue.Copy{
		copyOf(t, first, programQueue), copyOf(t, second, programQueue+1),
	}))
	s.Await(4)
	cookie := d.Netns().ID().Cookie
	nstest.Must(t, errors.Join(n.Stop(), d.Close()))
	n.restart(s)
	all, err := Classify(n.inherited, nil, n.options.Log)
	nstest.Must(t, err)
	left := func() []LeftProgram { return []LeftProgram{{Program: p, Open: true}} }
	d, _, err = n.Inherit(all[cookie], n.selector, &inspect.Attachment{}, left, false)
	nstest.Must(t, err)
	if got := d.program(programQueue).copies; len(got) != 2 {
		t.Errorf("%d copies, want 2", len(got))
	}
	nstest.Must(t, d.Up(n.hook, n.selector, &inspect.Attachment{}))
	nstest.Must(t, d.Down(false))
	s.Await(0)
	n.wantNothing(pod, peer)
}
