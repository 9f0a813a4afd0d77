// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"fmt"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// reportAnomalies reports what is new of others in the netns, of its queues and of
// the inspector.
func (r *Registry) reportAnomalies(n lockedNetns, rec *state.Record) {
	now := reported{foreign: n.reported.foreign}
	if err := n.datapath.Warning(); err != nil {
		now.warning = err.Error()
	}
	counters := n.counters()
	now.flushed = counters.Flushed
	if now.warning != "" && now.warning != n.reported.warning {
		r.events.report(slog.LevelWarn, api.EventSecurity, rec, now.warning)
	}
	if late := now.flushed - n.reported.flushed; now.flushed > n.reported.flushed {
		r.events.report(slog.LevelWarn, api.EventSecurity, rec, fmt.Sprintf(
			"%d verdicts came too late: a program in the pod's netns unregistered a netfilter "+
				"hook, and the kernel dropped the packets that waited", late))
	}
	now.full = n.full()
	if now.full && !n.reported.full {
		r.events.report(slog.LevelWarn, api.EventOverload, rec,
			"the queue is full: packets that come now are "+n.outcome())
	}
	r.reportInspector(n, rec, &counters)
	n.reported = now
}

// reportForeignReader reports once that another program reads a queue, also where no flow
// was settled: what waits there can skip the hook.
func (r *Registry) reportForeignReader(
	n lockedNetns, rec *state.Record, found *datapath.Findings,
) {
	text := "another program reads a queue in the pod's netns: packets that wait there can " +
		"skip inspection"
	if found.SettlingEnded {
		text += ", and flows are no longer settled there"
	}
	if found.SettlingEnded || found.ForeignReader && !n.reported.foreign {
		r.events.report(slog.LevelWarn, api.EventSecurity, rec, text)
	}
	n.reported.foreign = found.ForeignReader || found.Fault != nil && n.reported.foreign
}

// reportInspector reports panics and overruns, at a bounded rate, and keeps what
// the status shows of them.
func (r *Registry) reportInspector(n lockedNetns, rec *state.Record, counters *api.Counters) {
	c, outcome := &n.complaints, n.outcome()
	if count := c.panics.look(counters.Panics); count > 0 {
		c.panics.said = cmp.Or(n.datapath.TakePanic(), c.panics.said)
		r.events.report(slog.LevelError, api.EventPanic, rec, fmt.Sprintf(
			"the inspector panicked, packets %s: %d, it said %q", outcome, count, c.panics.said))
	}
	if count := c.overruns.look(counters.Overruns); count > 0 {
		r.events.report(slog.LevelWarn, api.EventOverload, rec, fmt.Sprintf(
			"the inspector exceeded its budget, batches %s: %d", outcome, count))
	}
	n.inspector.Store(c.problem())
}
