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
	if err := r.retiring.enter(); err != nil {
		return api.Attachment{}, err
	}
	defer r.retiring.leave()
	release, err := r.reserveFDs(ctx, req.Key)
	if err != nil {
		return api.Attachment{}, err
	}
	defer release()
	ns, err := openNetns(&req, file)
	if err != nil {
		return api.Attachment{}, explainFDLimit(err)
	}
	defer ns.Close()
	if err := admissible(ns); err != nil {
		return api.Attachment{}, explainFDLimit(err)
	}
	rec := r.newRecord(&req, ns)
	rec.Called = called
	r.seen.isAt(&rec)
	return r.attach(ctx, &attachment{record: rec}, ns)
}

func (r *Registry) newRecord(req *api.AttachRequest, ns *netns.NetNS) state.Record {
	id, bounded := ns.ID(), *req
	bounded.Limit()
	return state.Record{
		Key: req.Key, Network: req.Network, Origin: req.Origin, Pod: req.Pod,
		Netns:         api.Netns{Cookie: id.Cookie, Dev: id.Dev, Ino: id.Ino, Path: req.NetnsPath},
		State:         api.Attaching,
		FailurePolicy: cmp.Or(req.FailurePolicy, r.options.FailurePolicy),
		Queue:         r.options.Queue.Number,
		Created:       time.Now().UTC(),
		Traceparent:   req.Traceparent,
		Warnings:      bounded.Warnings,
		Annotations:   bounded.Annotations,
		Labels:        r.options.Labels(req.ContainerID),
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

// attach adds the new attachment and makes its record true.
func (r *Registry) attach(
	ctx context.Context, fresh *attachment, ns *netns.NetNS,
) (api.Attachment, error) {
	rec := fresh.record
	a, existing, err := r.add(ctx, fresh)
	if err != nil {
		return api.Attachment{}, err
	}
	if existing {
		return r.describe(a), nil
	}
	log := r.events.log(&rec)
	began := time.Now()
	if err := explainFDLimit(r.bringUp(a, ns)); err != nil {
		r.remove(a)
		r.options.Timings.Attached(time.Since(began), err)
		log.Error("attach refused", slog.Any("error", err))
		return api.Attachment{}, err
	}
	r.finish(a, api.Active)
	if !fresh.restored {
		r.awaitPrograms(ctx, a)
	}
	attached, took := r.describe(a), time.Since(began)
	r.options.Timings.Attached(took, nil)
	log.Info("attached", slog.String("hook", attached.Hook),
		slog.String("failurePolicy", string(rec.FailurePolicy)), slog.Duration("took", took))
	if fresh.restored {
		r.events.record(api.EventTakeOver, &rec, "attachment of an earlier daemon taken over")
	} else {
		r.events.record(api.EventAttach, &rec, "attached with hook "+attached.Hook+
			", failure policy "+string(rec.FailurePolicy))
		r.events.warn(&rec)
	}
	return attached, nil
}

// add enters an attachment in state attaching, or finds the same one there.
func (r *Registry) add(ctx context.Context, fresh *attachment) (*attachment, bool, error) {
	rec := fresh.record
	for {
		r.mu.Lock()
		a := r.attachments[rec.Key]
		if _, waits := r.pending[rec.Key]; a == nil && fresh.restored && !waits {
			r.mu.Unlock()
			return nil, false, errors.New("it was detached in the meantime")
		}
		if a == nil {
			a, fresh.done = fresh, make(chan struct{})
			a.netns = r.acquireLocked(rec.Netns.Cookie)
			r.attachments[rec.Key] = a
			r.most = max(r.most, len(r.attachments))
			r.mu.Unlock()
			return a, false, nil
		}
		have, done := a.record, a.done
		r.mu.Unlock()
		if have.State == api.Active {
			return a, true, conflict(&have, &rec)
		}
		if err := await(ctx, done, &have); err != nil {
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

// finish moves an attachment out of a passing state and wakes what waits for it. It
// needs no restoring then, whatever has attached it.
func (r *Registry) finish(a *attachment, s api.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pending[a.record.Key]; p != nil && p.Netns.Cookie == a.record.Netns.Cookie {
		delete(r.pending, a.record.Key)
	}
	a.record.State = s
	close(a.done)
}

// bringUp does the work of attaching, in the order that loses nothing. Where
// it fails, it has undone what it did.
func (r *Registry) bringUp(a *attachment, ns *netns.NetNS) error {
	n := a.netns.lock()
	defer n.unlock()
	elsewhere, err := r.receivesElsewhere(a, ns)
	if err != nil {
		return err
	}
	if err := r.recordAttaching(a); err != nil {
		return err
	}
	fault.At(fault.AttachRecorded)
	if err := r.join(n, a, ns); err != nil {
		return errors.Join(err, r.undoRecord(a))
	}
	link := linkOf(n, a)
	r.mu.Lock()
	a.record.Hook, a.record.Link = string(n.datapath.Hook()), link
	a.record.Settled = n.settledRecord()
	a.record.Programs = n.programRecords()
	a.elsewhere = elsewhere
	rec := a.record
	r.mu.Unlock()
	r.reportAnomalies(n, &rec)
	if elsewhere {
		r.reportElsewhere(&rec)
	}
	rec.State = api.Active
	if err := r.recordActive(a, rec); err != nil {
		_, undo := n.detach(a.record.Key, false)
		return errors.Join(err, undo, r.undoRecord(a))
	}
	fault.At(fault.AttachDone)
	return nil
}

// join adds a member to a netns, which is brought up for the first one.
func (r *Registry) join(n lockedNetns, a *attachment, ns *netns.NetNS) error {
	n.members[a.record.Key] = a.record.FailurePolicy
	var err error
	if n.datapath == nil {
		err = r.bringNetnsUp(n, a, ns)
	} else {
		err = n.applyPolicy()
	}
	if err != nil {
		delete(n.members, a.record.Key)
	}
	return err
}

// bringNetnsUp gives a netns its datapath. Where it fails, nothing is left but what
// was inherited.
func (r *Registry) bringNetnsUp(n lockedNetns, a *attachment, ns *netns.NetNS) error {
	d, s := n.inherited, r.selector(n.policy())
	if d == nil {
		var err error
		if d, err = r.datapaths.New(ns, s); err != nil {
			return err
		}
	}
	d.Begin(label(&a.record))
	n.label.Store(d.Label())
	r.addPrograms(d)
	h := r.currentHook()
	s.KeepSettled = r.beginSettling(n, d.Label(), &a.record, h.Kind())
	s.Settle = r.settleSetting(n)
	if err := d.Up(h, s, d.Label()); err != nil {
		if d != n.inherited {
			err = errors.Join(err, d.Remove())
		}
		return err
	}
	if d == n.inherited {
		r.mu.Lock()
		r.releaseLocked(n.podNetns) // the share of Inherit; the attachment has its own
		r.mu.Unlock()
	}
	n.datapath, n.inherited = d, nil
	n.count(d)
	r.startPrograms(n, &a.record)
	return nil
}

// linkOf returns the index of a new attachment's interface; 0 where there is none
// of its name. By the time of a restart, another one may have the name.
func linkOf(n lockedNetns, a *attachment) uint32 {
	if a.restored {
		return a.record.Link
	}
	index, err := n.datapath.InterfaceIndex(a.record.Ifname)
	if err != nil {
		return 0
	}
	return index
}

// reserveFDs promises what attaching takes. What is attached already takes nothing.
func (r *Registry) reserveFDs(ctx context.Context, key api.Key) (release func(), err error) {
	if r.named(key) != nil {
		return func() {}, nil
	}
	for {
		ended := r.datapaths.Closing() // of what detached pods had
		release, err = r.fds.reserve(r.queueFDs())
		if err == nil {
			return release, nil
		}
		if ended == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	err = explainFDLimit(err)
	r.options.Log.Error("attach refused", slog.String("containerID", key.ContainerID),
		slog.String("ifname", key.Ifname), slog.Any("error", err))
	return nil, err
}
