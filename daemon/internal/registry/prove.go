// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// proofInterval is how often what we believe is compared with the kernel.
const proofInterval = 30 * time.Second

// Once so many attachments have gone since there were most, and none goes for
// so long, their memory is given back to the system, which the runtime would do
// minutes later.
const (
	shrinkBy    = 50
	shrinkDelay = time.Second
)

// Reconcile calls Prove now and every 30 s, gives memory back after many pods
// have gone, and returns when ctx ends.
func (r *Registry) Reconcile(ctx context.Context) {
	tick := time.NewTicker(proofInterval)
	defer tick.Stop()
	quiet := time.NewTimer(proofInterval)
	defer quiet.Stop()
	quiet.Stop()
	r.Prove(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.Prove(ctx)
		case <-r.shrunk:
			quiet.Reset(shrinkDelay)
		case <-quiet.C:
			if r.datapaths.Closing() != nil { // what they close is not garbage yet
				quiet.Reset(shrinkDelay)
				continue
			}
			runtime.GC() // pools keep what they have over one collection
			debug.FreeOSMemory()
		}
	}
}

// Prove compares every attachment with what the kernel has, repairs what
// differs, restores what could not be restored before, and detaches pods that
// are gone. What it did it reports as events.
func (r *Registry) Prove(ctx context.Context) {
	r.tidy()
	r.retry(ctx)
	r.bury(ctx)
	r.forgetSeen()
	err := netns.Tour(func(visit func(*netns.NetNS) netns.Place) error {
		r.eachBinding(func(b *binding) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.parts != nil && ctx.Err() == nil {
				r.prove(b, visit(b.parts.Netns()))
			}
		})
		return nil
	})
	if err != nil {
		r.options.Log.Error("attachments not verified", slog.Any("error", err))
	}
}

// prove verifies one binding and repairs it. The caller holds b.mu.
func (r *Registry) prove(b *binding, at netns.Place) {
	rec := r.recordOf(b)
	defer r.notice(b, &rec)
	found := b.parts.Verify(at)
	if found.ForeignReader {
		r.report(slog.LevelWarn, api.EventSecurity, &rec,
			"another program reads a queue in the netns: no flow is settled there any more")
	}
	r.gauge(b)
	wrong := found.Fault
	if wrong == nil {
		r.compare(b, at, &rec)
		if b.problem.Swap(nil) != nil {
			r.report(slog.LevelInfo, api.EventRepair, &rec, "packets are inspected again")
		}
		return
	}
	if isLimit(wrong) { // of the daemon: it says nothing about the netns
		r.log(&rec).Warn("not verified", slog.Any("error", explainLimit(wrong)))
		return
	}
	err := b.parts.Repair(at)
	if err == nil {
		b.problem.Store(nil)
		r.report(slog.LevelWarn, api.EventRepair, &rec, "repaired: "+wrong.Error())
		return
	}
	text := err.Error()
	if last := b.problem.Swap(&text); last != nil && *last == text {
		return // said already
	}
	r.report(slog.LevelError, kindOf(err), &rec, "packets are not inspected: "+text)
}

// kindOf tells somebody in our way from what else may fail.
func kindOf(err error) api.EventKind {
	if errors.Is(err, nfqueue.ErrInUse) || errors.Is(err, hook.ErrForeign) {
		return api.EventSecurity
	}
	return api.EventFailure
}

// recordOf returns the record of one of a binding's members. The caller holds
// b.mu.
func (r *Registry) recordOf(b *binding) state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range b.members {
		if a := r.attachments[key]; a != nil {
			return a.record
		}
	}
	return state.Record{Netns: api.Netns{Cookie: b.cookie}}
}
