// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// doubts are the attachments of which it cannot be told whether their pods live.
type doubts struct {
	first state.Record
	api.Doubts
}

func newDoubts() *doubts { return &doubts{} }

func (d *doubts) add(rec *state.Record, why string) {
	if d.Attachments == 0 {
		d.first, d.Key, d.Pod, d.Reason = *rec, rec.Key, rec.Pod, why
	}
	d.Attachments++
}

// doubt remembers the doubts of the latest verification. It reports when there
// are any for the first time, and when there are none any more.
func (r *Registry) doubt(now *doubts) {
	r.mu.Lock()
	last := r.doubts
	r.doubts = now
	r.mu.Unlock()
	switch {
	case last.Attachments == 0 && now.Attachments > 0:
		r.report(slog.LevelWarn, api.EventDoubt, &now.first, fmt.Sprintf(
			"it cannot be told whether the pods of %d attachments live, this one among them: %s; "+
				"they stay attached", now.Attachments, now.Reason))
	case last.Attachments > 0 && now.Attachments == 0:
		r.report(slog.LevelInfo, api.EventRepair, &last.first,
			"it can be told of all attachments again whether their pods live")
	}
}

// Doubts are about the attachments of which it cannot be told whether their pods
// live; nil for none.
func (r *Registry) Doubts() *api.Doubts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubts.Attachments == 0 {
		return nil
	}
	found := r.doubts.Doubts
	return &found
}
