// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// lane is one queue of a netns with its reader.
type lane struct {
	queue   *nfqueue.Queue
	reader  *nfqueue.Reader
	poller  *nfqueue.Poller
	buffers *buffers

	// stat is what the kernel has said last of the queue, seen what of it has
	// been counted; guarded by the binding's lock.
	stat, seen nfqueue.Stat
	// inherited: what the kernel says first has been counted by an earlier daemon.
	inherited bool
}

// openLane binds a queue and has its reader served.
func (d *Datapath) openLane(number uint16, who *inspect.Attachment) (*lane, error) {
	q, err := nfqueue.Open(d.ns, d.queueConfig(number))
	if err != nil {
		return nil, err
	}
	fault.At(fault.QueueOpened)
	l := d.newLane(q)
	bind := func() error {
		if err := d.keeper.keep(fdstore.Queue, q.File()); err != nil {
			return err
		}
		fault.At(fault.QueueKept)
		return q.Bind()
	}
	if err := errors.Join(l.buffers.add(q), bind()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	fault.At(fault.QueueBound)
	if err := l.read(&d.factory.options, who); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// inheritLane has a queue served that an earlier daemon bound. Packets that
// this one had in hand when it died get the policy's verdict first; it returns
// how many they were.
func (d *Datapath) inheritLane(
	number uint16, who *inspect.Attachment, orphaned bool,
) (orphans int, err error) {
	socket := d.from.takeQueue(number)
	q, err := nfqueue.OpenInherited(socket, d.queueConfig(number))
	if err != nil {
		return 0, errors.Join(err, socket.Close())
	}
	l := d.newLane(q)
	if orphaned {
		orphans, err = q.AnswerOrphans(d.ns, d.selector.Bypass)
	}
	if err := errors.Join(err, l.buffers.add(q), l.read(&d.factory.options, who)); err != nil {
		return orphans, errors.Join(err, l.close())
	}
	l.inherited = true
	d.lanes = append(d.lanes, l)
	return orphans, nil
}

// queueConfig is how a queue of the netns is bound.
func (d *Datapath) queueConfig(number uint16) nfqueue.Config {
	c := d.factory.options.Queue
	c.Number, c.FailOpen = number, d.selector.Bypass
	return c
}

func (d *Datapath) newLane(q *nfqueue.Queue) *lane {
	return &lane{queue: q, poller: d.factory.pollers.next(), buffers: d.factory.buffers}
}

// read has the queue's packets inspected from now on.
func (l *lane) read(o *Options, who *inspect.Attachment) error {
	var err error
	l.reader, err = nfqueue.NewReader(l.queue, l.queue.Config().FailOpen, nfqueue.ReaderOptions{
		Inspector: o.Inspector(), Attachment: who, MarkMask: o.MarkMask,
		Observer: o.Observer, Panicked: o.Panicked,
	})
	if err != nil {
		return err
	}
	return l.poller.Add(l.reader)
}

func (l *lane) number() uint16 { return l.queue.Config().Number }

// close ends the queue and closes its socket.
func (l *lane) close() error { return errors.Join(l.end(), l.queue.Close()) }

// end ends the queue, also where another process still holds its socket, and
// waits for the turn that its reader may have; a reader that hangs is waited
// for until it is relieved.
func (l *lane) end() error {
	err := errors.Join(l.buffers.remove(l.queue), l.queue.Unbind())
	if l.reader == nil {
		return err
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for l.reader.Busy() {
		<-poll.C
	}
	return err
}

// setFailOpen says whether packets that cannot be inspected pass.
func (l *lane) setFailOpen(open bool) error {
	l.reader.SetFailOpen(open)
	return l.queue.SetFailOpen(open)
}

// setSettle tells the reader how to ask for a flow to be settled.
func (l *lane) setSettle(s hook.Settle) {
	if !s.On() {
		l.reader.SetSettle(0, 0)
		return
	}
	l.reader.SetSettle(s.Request(false), s.Request(true))
}

// check says what is wrong with the queue or its reader. The stats are those of
// the netns.
func (l *lane) check(stats []nfqueue.Stat) error {
	if err := l.reader.Err(); err != nil {
		return fmt.Errorf("reader of queue %d stopped: %w", l.number(), err)
	}
	stat, bound, err := l.queue.In(stats)
	switch {
	case err != nil:
		return err
	case !bound:
		return fmt.Errorf("queue %d is not bound", l.number())
	}
	l.stat = stat
	return nil
}

// repair binds a queue that is not bound any more, and has it read again.
func (l *lane) repair(at netns.Place) error {
	if l.reader.Err() != nil {
		if err := l.poller.Add(l.reader); err != nil {
			return err
		}
	}
	if _, bound, err := l.queue.Stat(at); bound || err != nil {
		return err
	}
	return l.queue.Rebind(at)
}
