// SPDX-License-Identifier: Apache-2.0

// Package registry owns the attachments and their lives: what is attached,
// since when, and what has to happen in which order so that no packet is lost
// and nothing is ever half attached.
package registry

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
	"github.com/nsqueue/nsqueue/daemon/internal/settle"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/daemon/internal/watch"
)

// Options are what a registry works with. Those that have no meaning
// for their zero value are required.
type Options struct {
	Inspector inspect.Inspector
	Store     *state.Store
	// Descriptors has copies of descriptors while no daemon runs; nil for none.
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
	// value means that they are not. The registry counts generations itself.
	Settle hook.Settle
	// SettleAfter settles a flow with the n-th accepted packet; 0 leaves it to
	// the inspector.
	SettleAfter uint32
	// PIDNamespace is the inode of the PID namespace that has all processes of the
	// node; 0 means the kernel's initial one. Inside another one, pods may have
	// processes that are not seen.
	PIDNamespace uint64
	// Labels returns those of a pod by the container ID of its sandbox, which it does not
	// change any more, and nil where they are not known; nil for none.
	Labels func(containerID string) map[string]string
	// Programs keeps programs of pods running; nil for none.
	Programs *programs.Programs
	// ProgramsOf returns those that run for an attachment.
	ProgramsOf func(label *inspect.Attachment) []*programs.Config
	// ProgramFDs is how many descriptors the programs of a pod take.
	ProgramFDs int
	// Timings is told how long calls took; nil for none.
	Timings Timings
}

// Timings is told of attachments that were made or restored, and of those that
// were ended, how long that took and whether it failed. It is called
// concurrently.
type Timings interface {
	Attached(took time.Duration, err error)
	Detached(took time.Duration, err error)
}

// Hooks are what the registry arms netns with.
type Hooks struct {
	Hook hook.Hook
	// Fallback takes over for good when Hook is no longer present; nil if none.
	Fallback hook.Hook
}

// Registry is the set of attachments. It is safe for concurrent use.
//
// Locks: mu guards the fields below it; nothing blocks while it is held. A netns'
// lock is taken without mu held and is held during its system calls, so that one
// slow netns delays no other. Methods named …Locked need mu; what needs the lock of
// a netns takes a lockedNetns.
type Registry struct {
	options   Options
	datapaths *datapath.Factory
	// elsewhere looks whether another netns receives for an interface.
	elsewhere func(ns *netns.NetNS, ifname string) (bool, error)
	fds       fdLimit
	told      *told
	hub       watch.Hub
	events    *events
	ending    sync.WaitGroup // of programs that were told to end
	seen      *seenNetns
	orphans   atomic.Uint64 // see Orphans
	refused   refused
	retiring  retiring

	mu           sync.Mutex
	hooks        Hooks     // set by Restore and not changed then
	hook         hook.Hook // of netns to come
	attachments  map[api.Key]*attachment
	netns        map[uint64]*podNetns // by cookie
	closedTotals api.Counters         // of netns that are gone
	// most is how many attachments there were before the last news in shrunk.
	most   int
	shrunk chan struct{}
	// pending are records that are not restored so far.
	pending map[api.Key]*pending
	doubts  *doubts // of the latest verification
}

// refused counts packets that found a queue or its socket full and were not let
// pass for it: the kernel does not count those that were.
type refused struct {
	queue, socket atomic.Uint64
}

// New returns an empty registry, which is used only after [Registry.Restore].
// The caller closes it.
func New(o Options) (*Registry, error) {
	o.Descriptors = cmp.Or(o.Descriptors, &fdstore.Store{})
	if o.Timings == nil {
		o.Timings = noTimings{}
	}
	if o.Labels == nil {
		o.Labels = func(string) map[string]string { return nil }
	}
	r := &Registry{
		options:     o,
		elsewhere:   (*netns.NetNS).ReceivesElsewhere,
		attachments: make(map[api.Key]*attachment),
		netns:       make(map[uint64]*podNetns),
		events:      newEvents(o.Log),
		seen:        newSeenNetns(),
		pending:     make(map[api.Key]*pending),
		doubts:      &doubts{},
		shrunk:      make(chan struct{}, 1),
	}
	log := &inspectorLog{log: o.Log, budget: o.Budget}
	r.told = newTold(&o)
	var err error
	r.datapaths, err = datapath.NewFactory(datapath.Options{
		Queue: o.Queue, MarkMask: o.MarkMask, BufferTotal: o.BufferTotal,
		Coalesce: o.Coalesce, Budget: o.Budget, Store: o.Descriptors,
		Inspector: r.inspector, Observer: r.hub.Observer,
		Attached: r.told.attached, Detached: r.told.detached, Needs: r.told.needs(),
		Panicked: log.panicked, Overran: log.overran, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends what New has started, after everything was detached or suspended.
func (r *Registry) Close() error {
	r.ending.Wait()
	return r.datapaths.Close()
}

// Watchdog ends the work of inspectors that overrun their budget, and returns when
// ctx ends. Without a budget it has nothing to do.
func (r *Registry) Watchdog(ctx context.Context) { r.datapaths.Watchdog(ctx) }

// selector is what is armed under a policy.
func (r *Registry) selector(policy api.Policy) hook.Selector {
	return hook.Selector{
		Queue: r.options.Queue.Number, Queues: r.options.Queues,
		Bypass:     policy == api.Ignore,
		Directions: r.options.Directions, Protocols: r.options.Protocols,
		Settle: r.options.Settle,
	}
}

// inspector returns what a reader asks: each counts its own flows.
func (r *Registry) inspector() inspect.Inspector {
	if n := r.options.SettleAfter; n > 0 {
		return settle.Around(n, r.options.Inspector)
	}
	return r.options.Inspector
}

func (r *Registry) currentHook() hook.Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hook
}

// acquireLocked returns a netns, which the caller has a share of until
// releaseLocked.
func (r *Registry) acquireLocked(cookie uint64) *podNetns {
	n := r.netns[cookie]
	if n == nil {
		n = newPodNetns(cookie)
		r.netns[cookie] = n
	}
	n.users++
	return n
}

func (r *Registry) releaseLocked(n *podNetns) {
	if n.users--; n.users == 0 {
		delete(r.netns, n.cookie)
		r.countClosedLocked(n)
	}
}

// countClosedLocked adds what a netns that is gone has counted to what all of them
// have, once.
func (r *Registry) countClosedLocked(n *podNetns) {
	now := n.counters()
	r.closedTotals.Add(now)
	r.closedTotals.Sub(n.closed)
	n.closed = now
}

// eachNetns calls fn for all netns there are, each locked.
func (r *Registry) eachNetns(fn func(lockedNetns)) {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.netns))
	r.mu.Unlock()
	for _, n := range all {
		locked := n.lock()
		fn(locked)
		locked.unlock()
	}
}

// named returns the attachment of a key, nil where there is none.
func (r *Registry) named(key api.Key) *attachment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attachments[key]
}

// records returns a copy of all records.
func (r *Registry) records() []state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]state.Record, 0, len(r.attachments))
	for _, a := range r.attachments {
		records = append(records, a.record)
	}
	return records
}

// noTimings forgets what it is told.
type noTimings struct{}

func (noTimings) Attached(time.Duration, error) {}
func (noTimings) Detached(time.Duration, error) {}
