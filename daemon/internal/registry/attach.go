// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Attach makes the attachment, called for now. See [api.Backend].
func (r *Registry) Attach(
	ctx context.Context, req api.AttachRequest, file *os.File,
) (api.Attachment, error) {
	return r.AttachCalled(ctx, req, file, boottime.Now())
}

// AttachCalled makes the attachment that was called for at a time since boot. See
// [api.Backend].
func (r *Registry) AttachCalled(
	ctx context.Context, req api.AttachRequest, file *os.File, called time.Duration,
) (api.Attachment, error) {
	release, err := r.reserve(ctx, req.Key)
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
	r.isAt(&rec)
	return r.attach(ctx, &attachment{record: rec}, ns)
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
		Warnings:      api.LimitWarnings(req.Warnings),
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

// attach enters the new attachment and makes its record true.
func (r *Registry) attach(
	ctx context.Context, fresh *attachment, ns *netns.NetNS,
) (api.Attachment, error) {
	rec := fresh.record
	a, existing, err := r.enter(ctx, fresh)
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
	if fresh.restored {
		r.remember(api.EventTakeOver, &rec, "attachment of an earlier daemon taken over")
	} else {
		r.remember(api.EventAttach, &rec, "attached with hook "+attached.Hook+
			", failure policy "+string(rec.FailurePolicy))
		r.warn(&rec)
	}
	return attached, nil
}

// enter adds an attachment in state attaching, or finds the same one there.
func (r *Registry) enter(ctx context.Context, fresh *attachment) (*attachment, bool, error) {
	rec := fresh.record
	for {
		r.mu.Lock()
		a := r.attachments[rec.Key]
		if _, waits := r.pending[rec.Key]; a == nil && fresh.restored && !waits {
			r.mu.Unlock()
			return nil, false, errors.New("it was detached meanwhile")
		}
		if a == nil {
			a, fresh.settled = fresh, make(chan struct{})
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
	elsewhere, err := r.receivesElsewhere(a, ns)
	if err != nil {
		return err
	}
	if err := r.recordAttaching(a); err != nil {
		return err
	}
	fault.At(fault.AttachRecorded)
	err = r.join(b, a, ns)
	if err != nil {
		return errors.Join(err, r.unrecord(a))
	}
	link := b.link(a)
	r.mu.Lock()
	a.record.Hook, a.record.Link = string(b.parts.Hook()), link
	a.elsewhere = elsewhere
	rec := a.record
	r.mu.Unlock()
	r.notice(b, &rec)
	if elsewhere {
		r.warnOfElsewhere(&rec)
	}
	rec.State = api.Active
	if err := r.recordActive(a, rec); err != nil {
		return errors.Join(err, b.part(a.record.Key, false), r.unrecord(a))
	}
	fault.At(fault.AttachDone)
	return nil
}
