// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Past is what earlier daemons have left.
type Past struct {
	records []state.Record
	stale   []api.Key
}

// Len returns how many attachments there were, without those of an earlier boot.
func (p *Past) Len() int { return len(p.records) }

// Ahead is what was found out about the past while an earlier daemon still serves, so
// that packets need not wait for it. The zero value knows nothing.
type Ahead struct {
	looks   datapath.Looks
	records state.Ahead
}

// Look looks at the descriptors of a daemon that serves, and at its records. It changes
// nothing.
func (a *Ahead) Look(inherited []fdstore.Descriptor, stateDir string) error {
	_, _, err := a.records.Read(stateDir)
	return errors.Join(err, a.looks.Look(inherited))
}

// Inherit reads what an earlier daemon recorded, and has the queues among the
// descriptors that it left read at once, first those in which packets wait. Call it
// before all else, and [Registry.Restore] then. What is known ahead, it does not find
// out again; nil is nothing.
//
// Files or descriptors of a newer daemon are an error, and nothing is touched.
func (r *Registry) Inherit(inherited []fdstore.Descriptor, ahead *Ahead) (*Past, error) {
	if ahead == nil {
		ahead = &Ahead{}
	}
	if err := datapath.CheckNames(inherited); err != nil {
		return nil, err
	}
	contents, err := r.options.Store.Load(&ahead.records)
	if err != nil {
		return nil, err
	}
	ordered, err := r.options.Store.TakeOrderly()
	if err != nil {
		r.options.Log.Error("cannot remove the mark of the last orderly end; taking it for a crash",
			slog.Any("error", err))
	}
	for _, err := range contents.Damaged {
		r.options.Log.Error("unreadable state file renamed to NAME.damaged", slog.Any("error", err))
	}
	if !ordered {
		ahead.looks.Doubt()
	}
	past := &Past{records: contents.Records, stale: contents.Stale}
	for _, part := range datapath.WaitingFirst(inherited) {
		if r.options.Descriptors.Revoked() {
			return nil, fdstore.ErrRevoked
		}
		left, err := datapath.Classify(part, &ahead.looks, r.options.Log)
		if err != nil {
			return nil, err
		}
		past.records = append(past.records, r.recovered(left, contents.Records)...)
		r.readInherited(left, past.records, !ordered)
	}
	return past, ahead.looks.Close()
}

// Restore makes the past true again, by the hook that is in use from now on.
// What cannot be restored stays recorded and is tried again by
// [Registry.Verify]. Call it once, before any call, and [Registry.Sweep] then.
//
// It ends early where another supervisor has taken the descriptors back.
func (r *Registry) Restore(ctx context.Context, past *Past, h Hooks) {
	r.mu.Lock()
	r.hooks, r.hook = h, h.Hook
	for _, rec := range past.records {
		r.pending[rec.Key] = &pending{Record: rec}
	}
	r.mu.Unlock()
	for _, key := range past.stale {
		r.options.Log.Info("attachment removed: it is from before the reboot", slog.Any("key", key))
		r.removeRecord(&state.Record{Key: key})
	}
	var restoring sync.WaitGroup
	turns := make(chan struct{}, restoringAtATime)
	census := r.census()
	for _, rec := range past.records {
		if r.options.Descriptors.Revoked() {
			break
		}
		turns <- struct{}{}
		restoring.Go(func() {
			defer func() { <-turns }()
			if err := r.restore(ctx, rec, census); err != nil {
				r.events.report(slog.LevelError, kindOf(err), &rec,
					"attachment not restored: "+err.Error())
			}
		})
	}
	restoring.Wait()
}

// restoringAtATime is how many attachments are restored together: with settled
// flows each one waits for grace periods of the kernel, which all share.
const restoringAtATime = 16

// recovered makes up records of netns whose state file is lost: as long as
// a supervisor has their queues, they are inspected.
func (r *Registry) recovered(
	left map[uint64]*datapath.Inherited, records []state.Record,
) []state.Record {
	var made []state.Record
	for cookie, i := range left {
		if slices.ContainsFunc(records, func(rec state.Record) bool {
			return rec.Netns.Cookie == cookie
		}) {
			continue
		}
		rec := state.Record{
			Key: api.Key{
				ContainerID: "recovered-" + strconv.FormatUint(cookie, 10), Ifname: "eth0",
			},
			Origin:        api.OriginAdopted,
			Netns:         api.Netns{Cookie: cookie, Dev: i.Identity().Dev, Ino: i.Identity().Ino},
			State:         api.Active,
			FailurePolicy: api.Ignore,
			Created:       time.Now().UTC(),
			Called:        boottime.Now(),
		}
		if i.Strict() {
			rec.FailurePolicy = api.Fail
		}
		r.events.report(slog.LevelError, api.EventFailure, &rec,
			"state file lost: the netns is inspected, with a container ID that nsqueued made up")
		if err := r.options.Store.Save(rec); err != nil {
			r.events.log(&rec).Error("cannot save a state file; going on without",
				slog.Any("error", err))
		}
		made = append(made, rec)
	}
	return made
}

// readInherited has inherited queues read.
func (r *Registry) readInherited(
	left map[uint64]*datapath.Inherited, records []state.Record, orphaned bool,
) {
	for _, rec := range records {
		i := left[rec.Netns.Cookie]
		if i == nil {
			continue
		}
		delete(left, rec.Netns.Cookie)
		r.mu.Lock()
		n := r.acquireLocked(rec.Netns.Cookie) // until an attachment has taken it up
		r.mu.Unlock()
		if err := r.inherit(n, i, &rec, orphaned); err != nil {
			r.events.report(slog.LevelError, api.EventFailure, &rec,
				"cannot read the queue that the last daemon left: "+err.Error())
		}
	}
}

func (r *Registry) inherit(
	n *podNetns, i *datapath.Inherited, rec *state.Record, orphaned bool,
) error {
	policy := api.Ignore
	if i.Strict() {
		policy = api.Fail
	}
	pod := label(rec)
	left := func() []datapath.LeftProgram { return r.leftPrograms(pod, rec) }
	d, orphans, err := r.datapaths.Inherit(i, r.selector(policy), pod, left, orphaned)
	if d == nil {
		return err
	}
	locked := n.lock()
	locked.inherited = d
	locked.label.Store(d.Label())
	locked.count(d)
	locked.unlock()
	if orphans > 0 {
		r.orphans.Add(uint64(orphans))
		r.events.report(slog.LevelWarn, api.EventOrphans, rec, fmt.Sprintf(
			"%d packets that the last daemon had read but not answered got the policy's verdict",
			orphans))
	}
	return err
}

// restore attaches what was attached, ends what was being detached, and forgets
// what is gone. While it fails, the record stays pending, and says why.
func (r *Registry) restore(
	ctx context.Context, rec state.Record, census func() *netns.Census,
) error {
	err := r.tryRestore(ctx, rec, census)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pending[rec.Key]; p != nil {
		p.why = err.Error()
	}
	return err
}

func (r *Registry) tryRestore(
	ctx context.Context, rec state.Record, census func() *netns.Census,
) error {
	ns, err := r.find(&rec, census)
	if err != nil {
		return err
	}
	if ns == nil {
		return r.forgetGone(&rec, census())
	}
	defer ns.Close()
	was := rec.State
	rec.State = api.Attaching
	rec.Queue = r.options.Queue.Number
	if _, err := r.attach(ctx, &attachment{record: rec, restored: true}, ns); err != nil {
		return err
	}
	if was == api.Detaching || r.retiring.begun() {
		return r.Detach(ctx, rec.Key)
	}
	return nil
}

// forgetGone forgets a record whose netns was not found, if that means that it is
// gone.
func (r *Registry) forgetGone(rec *state.Record, census *netns.Census) error {
	found := evidence{path: r.seen.notAt(rec), holders: absent}
	if census.Hidden != nil {
		found.holders = unknown
	}
	if found.conclude() != gone {
		return fmt.Errorf("its netns cannot be found: %s", r.seen.missing(rec, census))
	}
	r.events.log(rec).Info("attachment removed: its netns is gone",
		slog.String("path", rec.Netns.Path))
	r.mu.Lock()
	delete(r.pending, rec.Key)
	_, anew := r.attachments[rec.Key] // in another netns
	r.mu.Unlock()
	if !anew {
		r.removeRecord(rec)
	}
	return nil
}

// find opens the netns of a record: what was inherited, what is at its path, what
// a process is in, or what the node has mounted elsewhere. It returns nil for
// none.
func (r *Registry) find(
	rec *state.Record, census func() *netns.Census,
) (*netns.NetNS, error) {
	r.mu.Lock()
	n := r.netns[rec.Netns.Cookie]
	r.mu.Unlock()
	if n != nil {
		locked := n.lock()
		defer locked.unlock()
		if d := locked.current(); d != nil {
			return d.Netns().Clone()
		}
	}
	for _, path := range netns.Paths(rec.Netns.Path) {
		ns, err := reopen(rec, path)
		if ns != nil {
			r.seen.add(rec)
		}
		if ns != nil || err != nil {
			return ns, err
		}
	}
	ns, err := reopen(rec, census().Find(rec.Netns.Dev, rec.Netns.Ino))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s, and elsewhere it cannot be opened: %w (%s)",
			r.seen.noPath(rec), err, netns.TraceNeeded)
	}
	return ns, err
}

// reopen opens the netns of a record; nil where it is another one by now.
func reopen(rec *state.Record, path string) (*netns.NetNS, error) {
	if path == "" {
		return nil, nil
	}
	ns, err := netns.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if ns.ID().Cookie != rec.Netns.Cookie {
		return nil, ns.Close()
	}
	return ns, nil
}

// retry tries again to restore what could not be restored before.
func (r *Registry) retry(ctx context.Context) {
	r.mu.Lock()
	waiting := slices.Collect(maps.Values(r.pending))
	r.mu.Unlock()
	census := r.census()
	for _, p := range waiting {
		rec := p.Record
		err := r.restore(ctx, rec, census)
		switch {
		case err != nil:
			r.events.log(&rec).Warn("attachment still not restored; trying again",
				slog.Any("error", err))
		case r.named(rec.Key) != nil:
			r.events.report(slog.LevelInfo, api.EventRepair, &rec, "attachment restored")
		}
	}
}

// census returns what looks at all processes when it is called first.
func (r *Registry) census() func() *netns.Census {
	return sync.OnceValue(func() *netns.Census {
		return netns.Take(r.options.PIDNamespace, r.ours())
	})
}

// kindOf tells other programs in our way from what else may fail.
func kindOf(err error) api.EventKind {
	if errors.Is(err, nfqueue.ErrInUse) || errors.Is(err, hook.ErrForeign) {
		return api.EventSecurity
	}
	return api.EventFailure
}
