// SPDX-License-Identifier: Apache-2.0

// Package registry owns the attachments and their lives: what is attached,
// since when, and what has to happen in which order so that no packet is lost
// and nothing is ever half attached.
package registry

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/daemon/internal/watch"
)

// Options are what a registry works with. Those that have no meaning
// for their zero value are required.
type Options struct {
	Inspector inspect.Inspector
	Store     *state.Store
	// Descriptors keeps descriptors while no daemon runs; nil if nobody does.
	Descriptors *fdstore.Store
	Log         *slog.Logger
	// FailurePolicy of requests that name none.
	FailurePolicy api.Policy
	// Queue is how each netns' queue is bound; its FailOpen follows the policy.
	Queue nfqueue.Config
	// Directions and Protocols that are queued.
	Directions hook.Directions
	Protocols  []uint8
	// MarkMask are the mark bits that the inspector may set.
	MarkMask uint32
	// Queues is how many queues each netns has; 0 means one.
	Queues uint16
	// BufferTotal is what all receive buffers may take together.
	BufferTotal int
	// Coalesce is how long packets of a busy queue may be left waiting; 0 means
	// that they never are.
	Coalesce time.Duration
	// Budget is how long the inspector may take for a batch; 0 is no limit.
	Budget time.Duration
	// Settle is how flows are settled, with any generation but 0; the zero
	// value means that they are not.
	Settle hook.Settle
	// SettleAfter settles a flow with the n-th accepted packet; 0 leaves it to
	// the inspector.
	SettleAfter uint32
	// PIDNamespace is the inode of the PID namespace that has all processes of the
	// node; 0 means the kernel's initial one. Inside another one, pods may have
	// processes that are not seen.
	PIDNamespace uint64
	// Timings is told how long calls took; nil if nobody asks.
	Timings Timings
}

// Hooks are what the registry arms netns with.
type Hooks struct {
	Hook hook.Hook
	// Fallback takes over for good when Hook is no longer present; nil if none.
	Fallback hook.Hook
}

// Registry is the set of attachments. It is safe for concurrent use.
//
// Locks: mu guards the two maps and the fields that say so; nothing blocks
// while it is held. A binding's lock is taken without mu held and is held
// during its system calls, so that one slow netns delays nobody else.
type Registry struct {
	options Options
	pollers *pollers
	buffers *buffers
	// elsewhere looks whether another netns receives for an interface.
	elsewhere func(ns *netns.NetNS, ifname string) (bool, error)
	headroom  headroom
	hub       watch.Hub
	journal   journal
	panics    limiter       // of log lines about panics
	orphans   atomic.Uint64 // packets that dead daemons had in hand
	refused   refused       // packets that the kernel could not queue
	closings  *closings

	mu          sync.Mutex
	hooks       Hooks     // set by Restore and not changed then
	hook        hook.Hook // of new bindings
	generation  uint8     // of settled flows
	attachments map[api.Key]*attachment
	bindings    map[uint64]*binding // by netns cookie
	gone        api.Counters        // of bindings that are gone
	// most is how many attachments there were before the last news in shrunk.
	most   int
	shrunk chan struct{}
	// pending are records that are not restored so far.
	pending map[api.Key]*pending
	// seen are the cookies of netns that this process has seen at their paths.
	seen   map[uint64]bool
	doubts *doubts // of the latest verification
}

// pending is a record that is not restored so far. The record is not changed.
type pending struct {
	state.Record
	why string // guarded by the registry's mu; empty where it is not known
}

// attachment is one entry. Its record's State, Hook and Link, and elsewhere,
// are guarded by the registry's mu, all else is not changed after it was entered.
type attachment struct {
	record  state.Record
	binding *binding
	// restored: it was recorded before this daemon began.
	restored bool
	// elsewhere: another netns receives for the interface.
	elsewhere bool
	// settled is closed when the state is no longer attaching or detaching.
	settled chan struct{}
}

// New returns an empty registry, which serves nobody before [Registry.Restore].
// The caller closes it.
func New(o Options) (*Registry, error) {
	o.Descriptors = cmp.Or(o.Descriptors, &fdstore.Store{})
	if o.Timings == nil {
		o.Timings = noTimings{}
	}
	pollers, err := newPollers(o.Queue.CopyRange, o.Coalesce, o.Log)
	if err != nil {
		return nil, err
	}
	return &Registry{
		options:     o,
		pollers:     pollers,
		elsewhere:   (*netns.NetNS).ReceivesElsewhere,
		closings:    newClosings(),
		buffers:     newBuffers(o.BufferTotal, o.Queue.ReceiveBuffer),
		generation:  1,
		attachments: make(map[api.Key]*attachment),
		bindings:    make(map[uint64]*binding),
		pending:     make(map[api.Key]*pending),
		seen:        make(map[uint64]bool),
		doubts:      newDoubts(),
		shrunk:      make(chan struct{}, 1),
	}, nil
}

// Close ends what New has started, after everything was detached or suspended.
func (r *Registry) Close() error {
	r.closings.wait()
	return r.pollers.close()
}

// closeLater closes a socket beside the caller, where the kernel takes its time.
func (r *Registry) closeLater(socket func() error) {
	r.closings.start(func() {
		if err := socket(); err != nil {
			r.options.Log.Error("socket of a netns not closed", slog.Any("error", err))
		}
	})
}

// Check verifies that packets of the attachment are queued and read.
func (r *Registry) Check(_ context.Context, key api.Key) error {
	a := r.named(key)
	if a == nil {
		return api.Errorf(api.CodeNotAttached, "there is no attachment %s", key)
	}
	a.binding.mu.Lock()
	defer a.binding.mu.Unlock()
	if err := a.binding.check(); err != nil {
		return api.Errorf(api.CodeNotInspected, "attachment %s: %s", key, err)
	}
	return nil
}

// settle moves an attachment out of a passing state and wakes who waits. It
// needs no restoring then, whoever has attached it.
func (r *Registry) settle(a *attachment, s api.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pending[a.record.Key]; p != nil && p.Netns.Cookie == a.record.Netns.Cookie {
		delete(r.pending, a.record.Key)
	}
	a.record.State = s
	close(a.settled)
}

// leave takes an attachment out of the registry and wakes who waits.
func (r *Registry) leave(a *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attachments, a.record.Key)
	r.release(a.binding)
	close(a.settled)
	if r.most-len(r.attachments) < shrinkBy {
		return
	}
	r.most = len(r.attachments)
	select {
	case r.shrunk <- struct{}{}:
	default:
	}
}

func (r *Registry) log(rec *state.Record) *slog.Logger {
	log := r.options.Log.With(slog.String("containerID", rec.ContainerID),
		slog.String("ifname", rec.Ifname), slog.String("pod", rec.Pod.String()),
		slog.Uint64("netns", rec.Netns.Cookie))
	if rec.Traceparent != "" {
		log = log.With(slog.String("traceparent", rec.Traceparent))
	}
	return log
}
