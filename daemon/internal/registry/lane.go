// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

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
	buffers *buffers

	done chan struct{} // closed when the reader has stopped for good
	once sync.Once     // closes done
	err  error         // why it stopped, valid from then on
}

// openLane binds a queue and starts its reader.
func (r *Registry) openLane(
	ns *netns.NetNS, c nfqueue.Config, a *inspect.Attachment,
) (*lane, error) {
	q, err := nfqueue.Open(ns, c)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(r.buffers.add(q), q.Bind()); err != nil {
		return nil, errors.Join(err, r.buffers.remove(q), q.Close())
	}
	l := &lane{queue: q, buffers: r.buffers, done: make(chan struct{})}
	l.reader = nfqueue.NewReader(q, c.FailOpen, nfqueue.ReaderOptions{
		Inspector: r.inspector(), Attachment: a, MarkMask: r.options.MarkMask,
		Pool: r.pool, Observer: r.hub.Observer,
	})
	l.start(r.options.Log.With(slog.String("containerID", a.ContainerID),
		slog.Uint64("netns", ns.ID().Cookie), slog.Int("queue", int(c.Number))))
	return l, nil
}

// inspector returns what a reader asks: each counts its own flows.
func (r *Registry) inspector() inspect.Inspector {
	if n := r.options.SettleAfter; n > 0 {
		return settle.NewAfter(n, r.options.Inspector)
	}
	return r.options.Inspector
}

// start runs the reader, or its successor after an overrun. A run that was
// relieved ends whenever its inspector lets it, and nobody waits for it.
func (l *lane) start(log *slog.Logger) {
	go func() {
		err := l.reader.Run()
		if errors.Is(err, nfqueue.ErrRelieved) {
			return
		}
		l.once.Do(func() {
			l.err = err
			close(l.done)
		})
		if err != nil {
			log.Error("reader stopped", slog.Any("error", err))
		}
	}()
}

// close closes the queue and waits for its reader.
func (l *lane) close() error {
	err := errors.Join(l.buffers.remove(l.queue), l.queue.Close())
	<-l.done
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
	select {
	case <-l.done:
		return fmt.Errorf("reader of queue %d stopped: %w", number, l.err)
	default:
	}
	_, bound, err := l.queue.Stat(ns)
	if err == nil && !bound {
		err = fmt.Errorf("queue %d is not bound", number)
	}
	return err
}
