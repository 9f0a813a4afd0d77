// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// queueReader is one queue of a netns with its reader.
type queueReader struct {
	queue   *nfqueue.Queue
	reader  *nfqueue.Reader
	poller  *nfqueue.Poller
	buffers *buffers

	// stat is what the kernel has said last of the queue, seen what of it has
	// been counted.
	stat, seen nfqueue.Stat
	// inherited: what the kernel says first has been counted by an earlier daemon.
	inherited bool
}

// open binds the queue, once its descriptor is stored, and has it read.
func (q *queueReader) open(store func() error, o nfqueue.ReaderOptions, l *life) error {
	bind := func() error {
		if err := store(); err != nil {
			return err
		}
		fault.At(fault.QueueKept)
		return q.queue.Bind()
	}
	if err := errors.Join(q.buffers.add(q.queue), bind()); err != nil {
		return errors.Join(err, q.close())
	}
	fault.At(fault.QueueBound)
	if err := q.read(o, l); err != nil {
		return errors.Join(err, q.close())
	}
	return nil
}

// read has the queue's packets inspected from now on. The reader holds the life.
func (q *queueReader) read(o nfqueue.ReaderOptions, l *life) error {
	var err error
	q.reader, err = nfqueue.NewReader(q.queue, q.queue.Config().FailOpen, o)
	if q.reader != nil {
		l.hold()
	}
	if err != nil {
		return err
	}
	return q.poller.Add(q.reader)
}

func (q *queueReader) number() uint16 { return q.queue.Config().Number }

// close removes the queue and closes its socket.
func (q *queueReader) close() error { return errors.Join(q.remove(), q.queue.Close()) }

// remove removes the queue, also where another process still holds its socket, and
// waits for the turn that its reader may have; a reader that hangs is waited for
// until it is superseded.
func (q *queueReader) remove() error {
	if q.reader != nil {
		q.reader.EndDeferrals()
	}
	err := errors.Join(q.buffers.remove(q.queue), q.queue.Unbind())
	if q.reader == nil {
		return err
	}
	q.reader.End()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for q.reader.Busy() {
		<-poll.C
	}
	return err
}

// letGo closes the socket, of which a store has a copy. Nothing reads it any more.
func (q *queueReader) letGo() error {
	if q.reader != nil {
		q.reader.End()
	}
	return q.queue.Close()
}

// drain returns when every packet that has come has its verdict and is through;
// what has none at the deadline is accepted, or else dropped. What is deferred gets
// the policy's verdict at once. Nothing may come any more.
func (q *queueReader) drain(at netns.Place, deadline time.Time, accept bool) error {
	q.reader.EndDeferrals()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for ; ; <-poll.C {
		stat, bound, err := q.queue.Stat(at)
		switch {
		case err != nil:
			return err
		case !bound || (stat.Waiting == 0 && !q.reader.Busy()):
			return nil
		case time.Now().After(deadline):
			return q.queue.AnswerAll(stat.Sequence, accept)
		}
	}
}

// setFailOpen says whether packets that cannot be inspected pass.
func (q *queueReader) setFailOpen(open bool) error {
	q.reader.SetFailOpen(open)
	return q.queue.SetFailOpen(open)
}

// setSettle tells the reader how to ask for a flow to be settled.
func (q *queueReader) setSettle(s hook.Settle) {
	if !s.On() {
		q.reader.SetSettle(0, 0)
		return
	}
	q.reader.SetSettle(s.Request(false), s.Request(true))
}

// verify says what is wrong with the queue or its reader. The stats are those of
// the netns.
func (q *queueReader) verify(stats []nfqueue.Stat) error {
	if err := q.reader.Err(); err != nil {
		return fmt.Errorf("reader of queue %d stopped: %w", q.number(), err)
	}
	stat, bound, err := q.queue.StatIn(stats)
	switch {
	case err != nil:
		return err
	case !bound:
		return fmt.Errorf("queue %d is not bound", q.number())
	}
	q.stat = stat
	return nil
}

// repair binds a queue that is not bound any more, and has it read again.
func (q *queueReader) repair(at netns.Place) error {
	if q.reader.Err() != nil {
		if err := q.poller.Add(q.reader); err != nil {
			return err
		}
	}
	if _, bound, err := q.queue.Stat(at); bound || err != nil {
		return err
	}
	return q.queue.Rebind(at)
}

// state asks for the queue in the stats of its netns.
func (q *queueReader) state(stats []nfqueue.Stat) (QueueState, error) {
	stat, bound, err := q.queue.StatIn(stats)
	return QueueState{
		Number: q.number(), Length: q.queue.Config().Length, Bound: bound,
		Waiting: stat.Waiting, QueueDropped: stat.QueueDropped, SocketDropped: stat.UserDropped,
	}, err
}

// sample adds what verify has heard last to a sample.
func (q *queueReader) sample(s *Sample) {
	s.Waiting += uint64(q.stat.Waiting)
	s.Length += uint64(q.queue.Config().Length)
	if q.inherited && q.stat.PortID != 0 {
		q.inherited, q.seen = false, q.stat
	}
	s.QueueDropped += growth(q.seen.QueueDropped, q.stat.QueueDropped)
	s.SocketDropped += growth(q.seen.UserDropped, q.stat.UserDropped)
	q.seen = q.stat
}
