// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// always is later than every call.
const always time.Duration = math.MaxInt64

// shrinkBy is how many attachments go before their memory is worth giving back.
const shrinkBy = 50

// Detach ends an attachment; an unknown key is success.
func (r *Registry) Detach(ctx context.Context, key api.Key) error {
	return r.DetachOlder(ctx, api.DetachRequest{Key: key}, always)
}

// DetachOlder ends an attachment that was called for before a time since boot;
// an unknown key is success, and so is a newer attachment.
func (r *Registry) DetachOlder(
	ctx context.Context, req api.DetachRequest, called time.Duration,
) error {
	a, err := r.startDetaching(ctx, req.Key, called)
	if err != nil {
		return err
	}
	if a == nil {
		return r.removePending(req.Key, called)
	}
	log := r.events.log(&a.record)
	began := time.Now()
	r.recordDetaching(a)
	deserted := req.PodEnded && r.isDeserted(&a.record.Netns)
	n := a.netns.lock()
	stopped, err := n.detach(req.Key, deserted)
	n.unlock()
	r.awaitStopped(&a.record, stopped)
	fault.At(fault.DetachDone)
	r.removeRecord(&a.record)
	r.remove(a)
	took := time.Since(began)
	r.options.Timings.Detached(took, err)
	if err != nil {
		log.Error("detached with errors", slog.Any("error", err))
		return err
	}
	log.Info("detached", slog.Duration("took", took))
	r.events.record(api.EventDetach, &a.record, "detached")
	return nil
}

// isDeserted reports whether no process is in the netns. What cannot be found
// out is no. A census would not do: at a DEL the runtime still has the netns mounted,
// which counts for the census. A process that is hidden from this look loses no more
// than packets that are on their way.
func (r *Registry) isDeserted(n *api.Netns) bool {
	process, err := netns.ProcessIn(n.Dev, n.Ino, r.ours())
	return err == nil && process == ""
}

// removePending ends what could not be restored and is older than called; an unknown
// key is success.
func (r *Registry) removePending(key api.Key, called time.Duration) error {
	r.mu.Lock()
	rec, ok := r.pending[key]
	if !ok || rec.Called >= called {
		r.mu.Unlock()
		return nil
	}
	delete(r.pending, key)
	last := !slices.ContainsFunc(slices.Collect(maps.Values(r.pending)),
		func(other *pending) bool { return other.Netns.Cookie == rec.Netns.Cookie })
	n := r.netns[rec.Netns.Cookie]
	r.mu.Unlock()
	var err error
	if n != nil && last {
		err = r.detachInherited(n)
	}
	r.removeRecord(&rec.Record)
	r.Sweep()
	return err
}

// startDetaching moves an attachment to detaching for the caller alone; nil where there
// is none that is older than called.
func (r *Registry) startDetaching(
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
			a.done = make(chan struct{})
			r.mu.Unlock()
			return a, nil
		}
		have, done := a.record, a.done
		r.mu.Unlock()
		if err := await(ctx, done, &have); err != nil {
			return nil, err
		}
	}
}

// DetachAll ends every attachment and returns how many it ended.
func (r *Registry) DetachAll(ctx context.Context) (int, error) {
	return r.detachEach(ctx, always, false, func(*state.Record) bool { return true })
}

// Collect ends the attachments of a network that CNI made and no longer names.
// Those that were called for later than the collection are not meant.
func (r *Registry) Collect(
	ctx context.Context, req api.CollectRequest,
) (api.DetachResult, error) {
	called := boottime.Now()
	if api.Abandoned(ctx) {
		return api.DetachResult{}, api.Errorf(api.CodeTryAgainLater, "the client has hung up")
	}
	n, err := r.detachEach(ctx, called, true, func(rec *state.Record) bool {
		return rec.Origin == api.OriginCNI && rec.Network == req.Network &&
			!slices.Contains(req.Valid, rec.Key)
	})
	return api.DetachResult{Detached: n}, err
}

func (r *Registry) detachEach(
	ctx context.Context, called time.Duration, ended bool, match func(*state.Record) bool,
) (int, error) {
	var errs []error
	n := 0
	for _, rec := range r.records() {
		if !match(&rec) {
			continue
		}
		req := api.DetachRequest{Key: rec.Key, PodEnded: ended}
		if err := r.DetachOlder(ctx, req, called); err != nil {
			errs = append(errs, fmt.Errorf("detach %s: %w", rec.Key, err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// detachInherited takes down what was inherited and no record wants any more.
func (r *Registry) detachInherited(n *podNetns) error {
	locked := n.lock()
	d := locked.inherited
	locked.inherited = nil
	locked.unlock()
	if d == nil {
		return nil
	}
	r.mu.Lock()
	r.releaseLocked(n)
	r.mu.Unlock()
	defer func() { // what was read meanwhile
		r.mu.Lock()
		defer r.mu.Unlock()
		if n.users == 0 {
			r.countClosedLocked(n)
		}
	}()
	return d.DownUnused(r.currentHook())
}

// remove takes an attachment out of the registry and wakes what waits for it.
func (r *Registry) remove(a *attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attachments, a.record.Key)
	r.releaseLocked(a.netns)
	close(a.done)
	if r.most-len(r.attachments) < shrinkBy {
		return
	}
	r.most = len(r.attachments)
	select {
	case r.shrunk <- struct{}{}:
	default:
	}
}
