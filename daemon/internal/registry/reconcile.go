// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// verifyInterval is how often what we believe is compared with the kernel.
const verifyInterval = 30 * time.Second

// shrinkDelay is for how long none goes before the memory of attachments that have
// gone is given back to the system, which the runtime would do minutes later.
const shrinkDelay = time.Second

// Reconcile calls Verify now and every 30 s, gives memory back after many pods
// have gone, and returns when ctx ends.
func (r *Registry) Reconcile(ctx context.Context) {
	tick := time.NewTicker(verifyInterval)
	defer tick.Stop()
	quiet := time.NewTimer(verifyInterval)
	defer quiet.Stop()
	quiet.Stop()
	r.Verify(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.Verify(ctx)
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

// Verify compares every attachment with what the kernel has, repairs what
// differs, restores what could not be restored before, and detaches pods that
// are gone. What it did it reports as events.
func (r *Registry) Verify(ctx context.Context) {
	r.tidy()
	r.retry(ctx)
	r.Sweep() // of records that are pending no more
	r.detachStale(ctx)
	r.forgetSeen()
	err := netns.Tour(func(visit func(*netns.NetNS) netns.Place) error {
		r.eachNetns(func(n lockedNetns) {
			if n.datapath != nil && ctx.Err() == nil {
				r.verifyNetns(n, visit(n.datapath.Netns()))
			}
		})
		return nil
	})
	if err != nil {
		r.options.Log.Error("cannot verify attachments; trying again", slog.Any("error", err))
	}
}

// verifyNetns verifies one netns and repairs it.
func (r *Registry) verifyNetns(n lockedNetns, at netns.Place) {
	rec := r.recordOf(n)
	defer r.reportAnomalies(n, &rec)
	if err := n.datapath.Rearm(r.settleSetting(n)); err != nil { // as a change has failed to
		r.events.log(&rec).Warn("cannot unsettle flows; trying again", slog.Any("error", err))
	}
	found := n.datapath.Verify(at)
	r.reportForeignReader(n, &rec, &found)
	r.sampleQueues(n)
	switch {
	case found.Fault == nil:
		r.compareTraffic(n, at, &rec)
		if n.problem.Swap(nil) != nil {
			r.events.report(slog.LevelInfo, api.EventRepair, &rec, "packets are inspected again")
		}
	case isFDLimit(found.Fault): // of the daemon: it says nothing about the netns
		r.events.log(&rec).Warn("cannot verify an attachment; trying again",
			slog.Any("error", explainFDLimit(found.Fault)))
	default:
		r.repairNetns(n, at, &rec, found.Fault)
	}
}

// repairNetns puts a fault right, and reports whether it could.
func (r *Registry) repairNetns(n lockedNetns, at netns.Place, rec *state.Record, fault error) {
	err := n.datapath.Repair(at)
	if err == nil {
		n.problem.Store(nil)
		r.events.report(slog.LevelWarn, api.EventRepair, rec, "repaired: "+fault.Error())
		return
	}
	text := err.Error()
	if last := n.problem.Swap(&text); last != nil && *last == text {
		return // said already
	}
	r.events.report(slog.LevelError, kindOf(err), rec, "packets are not inspected: "+text)
}

// recordOf returns the record of one of the members of a netns.
func (r *Registry) recordOf(n lockedNetns) state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range n.members {
		if a := r.attachments[key]; a != nil {
			return a.record
		}
	}
	return state.Record{Netns: api.Netns{Cookie: n.cookie}}
}

// detachStale detaches what nothing has detached although the pod is gone. Our own
// sockets keep the netns and its interfaces alive: what else keeps it must be
// looked for, and where that cannot be seen, the attachment stays.
func (r *Registry) detachStale(ctx context.Context) {
	records, census := r.records(), r.census()
	undecidable := &doubts{}
	for i := range records {
		rec := &records[i]
		if rec.State != api.Active || r.seen.isAt(rec) {
			continue
		}
		found := r.evidence(rec, census())
		switch found.conclude() {
		case undecided:
			undecidable.add(rec, r.seen.missing(rec, census()))
		case gone:
			r.detachGone(ctx, rec, &found)
		}
	}
	r.reportDoubts(undecidable)
}

func (r *Registry) detachGone(ctx context.Context, rec *state.Record, found *evidence) {
	why := "its netns is mounted nowhere on the node, no process is in it"
	if found.link == absent {
		why += ", its interface is gone"
	}
	r.events.report(slog.LevelWarn, api.EventLostDetach, rec,
		"the pod disappeared without a DEL and is detached, no action needed: "+why)
	// A new attachment may have taken its place meanwhile.
	req := api.DetachRequest{Key: rec.Key, PodEnded: true}
	if err := r.DetachOlder(ctx, req, rec.Called+1); err != nil {
		r.events.log(rec).Error("errors while a pod that is gone was detached",
			slog.Any("error", err))
	}
}

// forgetSeen forgets the netns that nothing is about any more.
func (r *Registry) forgetSeen() {
	r.mu.Lock()
	about := make(map[uint64]bool, len(r.attachments)+len(r.pending))
	for _, a := range r.attachments {
		about[a.record.Netns.Cookie] = true
	}
	for _, p := range r.pending {
		about[p.Netns.Cookie] = true
	}
	r.mu.Unlock()
	r.seen.retain(about)
}

// evidence looks for what keeps the netns of an attachment, whose path was
// looked at.
func (r *Registry) evidence(rec *state.Record, census *netns.Census) evidence {
	return evidence{
		path: r.seen.notAt(rec), holders: holders(rec, census), link: r.link(rec),
		held: true, age: boottime.Now() - rec.Called,
	}
}

// link asks a socket of the netns for the attachment's interface, by its index:
// the pod may change the name.
func (r *Registry) link(rec *state.Record) sight {
	r.mu.Lock()
	n := r.netns[rec.Netns.Cookie]
	r.mu.Unlock()
	if n == nil || rec.Link == 0 {
		return unknown
	}
	locked := n.lock()
	defer locked.unlock()
	if locked.datapath == nil {
		return unknown
	}
	err := locked.datapath.HasInterface(rec.Link)
	switch {
	case err == nil:
		return there
	case errors.Is(err, unix.ENODEV):
		return absent
	}
	r.events.log(rec).Warn("cannot look for the interface of a pod", slog.Any("error", err))
	return unknown
}

// reportDoubts remembers the doubts of the latest verification. It reports when there
// are any for the first time, and when there are none any more.
func (r *Registry) reportDoubts(now *doubts) {
	r.mu.Lock()
	last := r.doubts
	r.doubts = now
	r.mu.Unlock()
	switch {
	case last.Attachments == 0 && now.Attachments > 0:
		r.events.report(slog.LevelWarn, api.EventDoubt, &now.first, fmt.Sprintf(
			"nsqueued cannot tell whether the pods of %d attachments still run, this one among "+
				"them: %s; they stay attached", now.Attachments, now.Reason))
	case last.Attachments > 0 && now.Attachments == 0:
		r.events.report(slog.LevelInfo, api.EventRepair, &last.first,
			"nsqueued can tell again of every attachment whether its pod runs")
	}
}
