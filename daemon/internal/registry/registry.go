// SPDX-License-Identifier: Apache-2.0

// Package registry owns the attachments and their lives: what is attached,
// since when, and what has to happen in which order so that no packet is lost
// and nothing is ever half attached.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/api/spool"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
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
	options  Options
	pollers  *pollers
	buffers  *buffers
	headroom headroom
	hub      watch.Hub
	journal  journal
	orphans  atomic.Uint64 // packets that dead daemons had in hand
	refused  refused       // packets that the kernel could not queue

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
	// pending are records that could not be restored so far.
	pending map[api.Key]state.Record
}

// attachment is one entry. Its record's State and Hook are guarded by the
// registry's mu, all else is not changed after it was entered.
type attachment struct {
	record  state.Record
	binding *binding
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
		buffers:     newBuffers(o.BufferTotal, o.Queue.ReceiveBuffer),
		generation:  1,
		attachments: make(map[api.Key]*attachment),
		bindings:    make(map[uint64]*binding),
		pending:     make(map[api.Key]state.Record),
		shrunk:      make(chan struct{}, 1),
	}, nil
}

// Close ends what New has started, after everything was detached or suspended.
func (r *Registry) Close() error { return r.pollers.close() }

// AttachCalled makes the attachment that was called for at a time since boot. See
// [api.Backend].
func (r *Registry) AttachCalled(
	ctx context.Context, req api.AttachRequest, file *os.File, called time.Duration,
) (api.Attachment, error) {
	release, err := r.reserve(req.Key)
	if err != nil {
		return api.Attachment{}, err
	}
	defer release()
	ns, err := openNetns(&req, file)
	if err != nil {
		return api.Attachment{}, explainLimit(err)
	}
	defer ns.Close()
	if err := admissible(ns); err != nil {
		return api.Attachment{}, explainLimit(err)
	}
	rec := r.newRecord(&req, ns)
	rec.Called = called
	return r.attach(ctx, rec, ns)
}

func (r *Registry) newRecord(req *api.AttachRequest, ns *netns.NetNS) state.Record {
	id := ns.ID()
	return state.Record{
		Key: req.Key, Network: req.Network, Origin: req.Origin, Pod: req.Pod,
		Netns:         api.Netns{Cookie: id.Cookie, Dev: id.Dev, Ino: id.Ino, Path: req.NetnsPath},
		State:         api.Attaching,
		FailurePolicy: cmp.Or(req.FailurePolicy, r.options.FailurePolicy),
		Queue:         r.options.Queue.Number,
		Created:       time.Now().UTC(),
		Traceparent:   req.Traceparent,
	}
}

// openNetns opens what the request is about: the descriptor, or else the path.
func openNetns(req *api.AttachRequest, file *os.File) (*netns.NetNS, error) {
	var ns *netns.NetNS
	var err error
	switch {
	case file != nil:
		ns, err = netns.FromFile(file)
	case req.NetnsPath != "":
		ns, err = netns.Open(req.NetnsPath)
	default:
		return nil, api.Errorf(api.CodeInvalidNetns,
			"no netns: pass a descriptor with the request or name a path")
	}
	if errors.Is(err, netns.ErrNotNetns) || errors.Is(err, os.ErrNotExist) {
		return nil, api.Errorf(api.CodeInvalidNetns, "%s", err)
	}
	return ns, err
}

// admissible refuses the netns in which attaching would cut off the node.
func admissible(ns *netns.NetNS) error {
	if own, err := ns.IsCurrent(); err != nil || own {
		return errors.Join(err, api.Errorf(api.CodeInvalidNetns,
			"this is the daemon's own netns: a pod's netns is wanted"))
	}
	if initial, err := ns.IsInitial(); err != nil || initial {
		return errors.Join(err, api.Errorf(api.CodeInvalidNetns,
			"this is the node's initial netns: a pod's netns is wanted"))
	}
	return nil
}

// attach enters the record and makes it true.
func (r *Registry) attach(
	ctx context.Context, rec state.Record, ns *netns.NetNS,
) (api.Attachment, error) {
	a, existing, err := r.enter(ctx, rec)
	if err != nil {
		return api.Attachment{}, err
	}
	if existing {
		return r.describe(a), nil
	}
	log := r.log(&rec)
	began := time.Now()
	if err := explainLimit(r.bringUp(a, ns)); err != nil {
		r.leave(a)
		r.options.Timings.Attached(time.Since(began), err)
		log.Error("attach refused", slog.Any("error", err))
		return api.Attachment{}, err
	}
	r.settle(a, api.Active)
	attached, took := r.describe(a), time.Since(began)
	r.options.Timings.Attached(took, nil)
	log.Info("attached", slog.String("hook", attached.Hook),
		slog.String("failurePolicy", string(rec.FailurePolicy)), slog.Duration("took", took))
	return attached, nil
}

// enter adds an attachment in state attaching, or finds the same one there.
func (r *Registry) enter(ctx context.Context, rec state.Record) (*attachment, bool, error) {
	for {
		r.mu.Lock()
		a := r.attachments[rec.Key]
		if a == nil {
			a = &attachment{record: rec, settled: make(chan struct{})}
			a.binding = r.acquire(rec.Netns.Cookie)
			r.attachments[rec.Key] = a
			r.most = max(r.most, len(r.attachments))
			r.mu.Unlock()
			return a, false, nil
		}
		have, settled := a.record, a.settled
		r.mu.Unlock()
		if have.State == api.Active {
			return a, true, conflict(&have, &rec)
		}
		if err := await(ctx, settled, &have); err != nil {
			return nil, false, err
		}
	}
}

// conflict compares an attachment with another one of the same key.
func conflict(have, want *state.Record) error {
	switch {
	case have.Netns.Cookie != want.Netns.Cookie:
		return api.Errorf(api.CodeConflict,
			"attachment %s exists already in another netns (inode %d, %s)",
			have.Key, have.Netns.Ino, cmp.Or(have.Netns.Path, "no path"))
	case have.FailurePolicy != want.FailurePolicy:
		return api.Errorf(api.CodeConflict,
			"attachment %s exists already with failure policy %s: detach it first",
			have.Key, have.FailurePolicy)
	}
	return nil
}

func await(ctx context.Context, settled <-chan struct{}, rec *state.Record) error {
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.CodeTryAgainLater, "attachment %s is still %s", rec.Key, rec.State)
	}
}

// bringUp does the work of attaching, in the order that loses nothing. Where
// it fails, it has undone what it did.
func (r *Registry) bringUp(a *attachment, ns *netns.NetNS) error {
	b := a.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := r.options.Store.Save(a.record); err != nil {
		return err
	}
	fault.At(fault.AttachRecorded)
	err := b.join(r, a, ns)
	if err != nil {
		return errors.Join(err, r.options.Store.Remove(a.record.Key))
	}
	r.mu.Lock()
	a.record.Hook = string(b.parts.hook.Kind())
	rec := a.record
	r.mu.Unlock()
	r.notice(b, &rec)
	rec.State = api.Active
	if err := r.options.Store.Save(rec); err != nil {
		return errors.Join(err, b.part(a.record.Key), r.options.Store.Remove(a.record.Key))
	}
	fault.At(fault.AttachDone)
	return nil
}

// DetachOlder ends an attachment that was called for before a time since boot;
// an unknown key is success, and so is a newer attachment.
func (r *Registry) DetachOlder(ctx context.Context, key api.Key, called time.Duration) error {
	a, err := r.claim(ctx, key, called)
	if err != nil {
		return err
	}
	if a == nil {
		return r.forget(key, called)
	}
	log := r.log(&a.record)
	began := time.Now()
	r.recordDetaching(a)
	a.binding.mu.Lock()
	err = a.binding.part(key)
	a.binding.mu.Unlock()
	fault.At(fault.DetachDone)
	// A record that stays is not the caller's affair: the netns will be found
	// gone.
	if err := r.options.Store.Remove(key); err != nil {
		log.Error("record not removed", slog.Any("error", err))
	}
	r.leave(a)
	took := time.Since(began)
	r.options.Timings.Detached(took, err)
	if err != nil {
		log.Error("detached with errors", slog.Any("error", err))
		return err
	}
	log.Info("detached", slog.Duration("took", took))
	return nil
}

// recordDetaching makes the next daemon go on where this one may die. Where it
// cannot be recorded, detaching goes on all the same.
func (r *Registry) recordDetaching(a *attachment) {
	r.mu.Lock()
	rec := a.record
	r.mu.Unlock()
	if err := r.options.Store.Save(rec); err != nil {
		r.log(&rec).Warn("state not saved", slog.Any("error", err))
	}
	fault.At(fault.DetachRecorded)
}

// forget ends what could not be restored and is older than called; an unknown
// key is success.
func (r *Registry) forget(key api.Key, called time.Duration) error {
	r.mu.Lock()
	rec, ok := r.pending[key]
	if !ok || rec.Called >= called {
		r.mu.Unlock()
		return nil
	}
	delete(r.pending, key)
	last := !slices.ContainsFunc(slices.Collect(maps.Values(r.pending)),
		func(other state.Record) bool { return other.Netns.Cookie == rec.Netns.Cookie })
	b := r.bindings[rec.Netns.Cookie]
	r.mu.Unlock()
	var err error
	if b != nil && last {
		err = r.renounce(b)
	}
	return errors.Join(err, r.options.Store.Remove(key))
}

// claim moves an attachment to detaching for the caller alone; nil where there
// is none that is older than called.
func (r *Registry) claim(
	ctx context.Context, key api.Key, called time.Duration,
) (*attachment, error) {
	for {
		r.mu.Lock()
		a := r.attachments[key]
		if a == nil || a.record.Called >= called {
			r.mu.Unlock()
			return nil, nil
		}
		if a.record.State == api.Active {
			a.record.State = api.Detaching
			a.settled = make(chan struct{})
			r.mu.Unlock()
			return a, nil
		}
		have, settled := a.record, a.settled
		r.mu.Unlock()
		if err := await(ctx, settled, &have); err != nil {
			return nil, err
		}
	}
}

// DetachAll ends every attachment and returns how many it ended.
func (r *Registry) DetachAll(ctx context.Context) (int, error) {
	return r.detachEach(ctx, always, func(*state.Record) bool { return true })
}

// Collect ends the attachments of a network that CNI made and no longer names.
// Those that were called for later than the collection are not meant.
func (r *Registry) Collect(
	ctx context.Context, req api.CollectRequest,
) (api.DetachResult, error) {
	called := spool.SinceBoot()
	if api.Abandoned(ctx) {
		return api.DetachResult{}, api.Errorf(api.CodeTryAgainLater, "the client has hung up")
	}
	n, err := r.detachEach(ctx, called, func(rec *state.Record) bool {
		return rec.Origin == api.OriginCNI && rec.Network == req.Network &&
			!slices.Contains(req.Valid, rec.Key)
	})
	return api.DetachResult{Detached: n}, err
}

func (r *Registry) detachEach(
	ctx context.Context, called time.Duration, match func(*state.Record) bool,
) (int, error) {
	var errs []error
	n := 0
	for _, rec := range r.records() {
		if !match(&rec) {
			continue
		}
		if err := r.DetachOlder(ctx, rec.Key, called); err != nil {
			errs = append(errs, fmt.Errorf("detach %s: %w", rec.Key, err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
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

// settle moves an attachment out of a passing state and wakes who waits.
func (r *Registry) settle(a *attachment, s api.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
