// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// noticed is what was reported last of somebody in the netns who is in our way,
// and of a queue that is full.
type noticed struct {
	warning string
	flushed uint64
	full    bool
}

// notice reports what is new. The caller holds b.mu.
func (r *Registry) notice(b *binding, rec *state.Record) {
	var now noticed
	if err := b.parts.Warning(); err != nil {
		now.warning = err.Error()
	}
	counted := b.counters()
	now.flushed = counted.Flushed
	if now.warning != "" && now.warning != b.noticed.warning {
		r.report(slog.LevelWarn, api.EventSecurity, rec, now.warning)
	}
	if n := now.flushed - b.noticed.flushed; now.flushed > b.noticed.flushed {
		r.report(slog.LevelWarn, api.EventSecurity, rec, fmt.Sprintf(
			"%d verdicts came too late: somebody in the netns unregisters hooks, and the kernel "+
				"drops what waits then", n))
	}
	now.full = b.full()
	if now.full && !b.noticed.full {
		r.report(slog.LevelWarn, api.EventOverload, rec,
			"the queue is full: what comes now is "+b.outcome())
	}
	r.noticeInspector(b, rec, &counted)
	b.noticed = now
}
