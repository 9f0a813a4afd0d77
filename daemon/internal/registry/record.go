// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// What follows keeps the state directory true also where that is full or
// read-only: nothing is attached that is not recorded, what was recorded is
// restored all the same, and to detach needs no record.

// recordAttaching records an attachment before anything is done for it. One that is
// restored keeps the record it has, which says more than that it is attaching.
func (r *Registry) recordAttaching(a *attachment) error {
	if a.restored {
		return nil
	}
	return r.options.Store.Save(a.record)
}

// recordActive records that an attachment has all it needs.
func (r *Registry) recordActive(a *attachment, rec state.Record) error {
	err := r.options.Store.Save(rec)
	if err != nil && a.restored {
		r.events.log(&rec).Warn("cannot save a state file; the one from before the restart stays",
			slog.Any("error", err))
		return nil
	}
	return err
}

// undoRecord takes back what was recorded of an attachment that has failed. What
// waits to be restored under its key is recorded again.
func (r *Registry) undoRecord(a *attachment) error {
	if a.restored {
		return nil
	}
	r.mu.Lock()
	waits := r.pending[a.record.Key]
	r.mu.Unlock()
	if waits != nil {
		return r.options.Store.Save(waits.Record)
	}
	return r.options.Store.Remove(a.record.Key)
}

// saveMembers changes the records of all attachments of a netns, and saves those of which
// change says so. It calls failed with the log of each that cannot be saved.
func (r *Registry) saveMembers(
	n lockedNetns, change func(*state.Record) (save bool), failed func(*slog.Logger, error),
) {
	for key := range n.members {
		r.mu.Lock()
		a := r.attachments[key]
		if a == nil || !change(&a.record) {
			r.mu.Unlock()
			continue
		}
		rec := a.record
		r.mu.Unlock()
		if err := r.options.Store.Save(rec); err != nil {
			failed(r.events.log(&rec), err)
		}
	}
}

// recordDetaching makes the next daemon go on where this one may die. Where it
// cannot be recorded, detaching goes on all the same.
func (r *Registry) recordDetaching(a *attachment) {
	r.mu.Lock()
	rec := a.record
	r.mu.Unlock()
	if err := r.options.Store.Save(rec); err != nil {
		r.events.log(&rec).Warn("cannot save a state file; going on without",
			slog.Any("error", err))
	}
	fault.At(fault.DetachRecorded)
}

// removeRecord removes the record of what has ended. One that cannot be removed is
// no failure of the call: each verification tries again. The next daemon may find it
// before that, and forgets it if the netns is gone.
func (r *Registry) removeRecord(rec *state.Record) {
	if err := r.options.Store.Remove(rec.Key); err != nil {
		r.events.log(rec).Error("cannot remove a state file; trying again", slog.Any("error", err))
	}
}

// tidy removes the records that could not be removed before.
func (r *Registry) tidy() {
	if err := r.options.Store.Tidy(); err != nil {
		r.options.Log.Warn("still cannot remove state files; trying again", slog.Any("error", err))
	}
}
