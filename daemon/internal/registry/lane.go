// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/settle"
)

// lane is one queue of a netns with its reader.
type lane struct {
	queue   *nfqueue.Queue
	reader  *nfqueue.Reader
	poller  *nfqueue.Poller
	buffers *buffers
}

// openLane binds a queue and has its reader served.
func (r *Registry) openLane(
	ns *netns.NetNS, c nfqueue.Config, a *inspect.Attachment,
) (*lane, error) {
	q, err := nfqueue.Open(ns, c)
	if err != nil {
		return nil, err
	}
	l := &lane{queue: q, poller: r.pollers.next(), buffers: r.buffers}
	if err := l.open(r, c.FailOpen, a); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lane) open(r *Registry, failOpen bool, a *inspect.Attachment) error {
	if err := errors.Join(l.buffers.add(l.queue), l.queue.Bind()); err != nil {
		return err
	}
	var err error
	l.reader, err = nfqueue.NewReader(l.queue, failOpen, nfqueue.ReaderOptions{
		Inspector: r.inspector(), Attachment: a, MarkMask: r.options.MarkMask,
		Observer: r.hub.Observer,
	})
	if err != nil {
		return err
	}
	return l.poller.Add(l.reader)
}

// inspector returns what a reader asks: each counts its own flows.
func (r *Registry) inspector() inspect.Inspector {
	if n := r.options.SettleAfter; n > 0 {
		return settle.NewAfter(n, r.options.Inspector)
	}
	return r.options.Inspector
}

// close closes the queue and waits for the turn that its reader may have; a
// reader that hangs is waited for until it is relieved.
func (l *lane) close() error {
	err := errors.Join(l.buffers.remove(l.queue), l.queue.Close())
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

// setPolicy changes what happens to packets that cannot be inspected.
func (l *lane) setPolicy(ignore bool) error {
	l.reader.SetFailOpen(ignore)
	return l.queue.SetFailOpen(ignore)
}

// setSettle tells the reader how to ask for a flow to be settled.
func (l *lane) setSettle(s hook.Settle) {
	if !s.On() {
		l.reader.SetSettle(0, 0)
		return
	}
	l.reader.SetSettle(s.Request(false), s.Request(true))
}

// check says what is wrong with the queue or its reader.
func (l *lane) check(ns *netns.NetNS) error {
	number := l.queue.Config().Number
	if err := l.reader.Err(); err != nil {
		return fmt.Errorf("reader of queue %d stopped: %w", number, err)
	}
	_, bound, err := l.queue.Stat(ns)
	if err == nil && !bound {
		err = fmt.Errorf("queue %d is not bound", number)
	}
	return err
}
