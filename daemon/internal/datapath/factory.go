// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"log/slog"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/reject"
)

// Options are what all netns of a node have in common. Those that have no
// meaning for their zero value are required.
type Options struct {
	// Queue is how each queue is bound; its Number and FailOpen follow the selector.
	Queue nfqueue.Config
	// MarkMask are the mark bits that the inspector may set.
	MarkMask uint32
	// BufferTotal is what all receive buffers may take together.
	BufferTotal int
	// Coalesce is how long packets of a busy queue may be left waiting; 0 means
	// that they never are.
	Coalesce time.Duration
	// Budget is how long the inspector may take for a batch; 0 is no limit.
	Budget time.Duration
	// Store keeps descriptors while no daemon runs.
	Store *fdstore.Store
	// Inspector returns what one more reader asks.
	Inspector func() inspect.Inspector
	// Observer is asked for before each packet; it may return nil.
	Observer func() nfqueue.Observer
	// Attached is told of a label before the first packet with it is inspected, and
	// Detached after the last one. Both may be nil; they are called concurrently.
	Attached, Detached func(label *inspect.Attachment)
	// Needs returns what a label's packets need now; nil means all that Queue and the
	// selector say. It is called after Attached, and again by Widen and Adapt.
	Needs func(label *inspect.Attachment) Needs
	// Panicked is told what the inspector's panic says, while its stack is there.
	Panicked func(r *nfqueue.Reader, said any)
	// Overran is told of a reader whose inspector took longer than Budget.
	Overran func(r *nfqueue.Reader)
	Log     *slog.Logger
}

// Factory makes the datapaths of a node, and has what they share: goroutines
// that read, memory for receive buffers, and sockets that are being closed. It is
// safe for concurrent use.
type Factory struct {
	options  Options
	pollers  *pollers
	buffers  *buffers
	closings *closings
	untold   reject.Untold
}

// NewFactory starts the goroutines that read. The caller closes the factory.
func NewFactory(o Options) (*Factory, error) {
	longest := o.Queue.CopyRange
	if o.Needs != nil {
		longest = nfqueue.MaxCopyRange
	}
	pollers, err := newPollers(longest, o.Coalesce, o.Overran, o.Log)
	if err != nil {
		return nil, err
	}
	return &Factory{
		options: o, pollers: pollers, closings: newClosings(),
		buffers: newBuffers(o.BufferTotal, o.Queue.ReceiveBuffer),
	}, nil
}

// queueReader returns a queue that is not read yet.
func (f *Factory) queueReader(q *nfqueue.Queue) *queueReader {
	return &queueReader{queue: q, poller: f.pollers.next(), buffers: f.buffers}
}

// readerOptions is what one more reader works with.
func (f *Factory) readerOptions(l *life) nfqueue.ReaderOptions {
	o := nfqueue.ReaderOptions{
		Inspector: f.options.Inspector(), Attachment: l.label, MarkMask: f.options.MarkMask,
		Observer: f.options.Observer, Panicked: f.options.Panicked, Ended: l.release,
	}
	if f.options.Store.Contested() {
		o.Revoked = f.options.Store.Revoked
	}
	return o
}

// Watchdog supersedes goroutines whose inspector overruns its budget, and returns
// when ctx ends. Without a budget it has nothing to do.
func (f *Factory) Watchdog(ctx context.Context) {
	if f.options.Budget > 0 {
		f.pollers.watchdog(ctx, f.options.Budget)
	}
}

// Buffers tells how the memory for receive buffers is divided.
func (f *Factory) Buffers() (BufferStatus, error) { return f.buffers.status() }

// Closing returns what is closed when one more socket of a netns that was taken
// down is closed; nil where none is being closed.
func (f *Factory) Closing() <-chan struct{} { return f.closings.next() }

// closeLater closes a socket beside the caller, where the kernel takes its time.
func (f *Factory) closeLater(socket func() error) {
	f.closings.start(func() {
		if err := socket(); err != nil {
			f.options.Log.Error("cannot close a socket of a pod's netns", slog.Any("error", err))
		}
	})
}

// Stop ends the reading, once all packets that were read are answered; those that are
// deferred get the policy's verdict.
func (f *Factory) Stop() error { return f.pollers.stop() }

// Close ends what the factory has started. No datapath may be up any more.
func (f *Factory) Close() error {
	f.closings.wait()
	return f.pollers.close()
}
