// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"log/slog"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// compareTraffic looks whether the traffic of the interfaces meets the hook.
func (r *Registry) compareTraffic(n lockedNetns, at netns.Place, rec *state.Record) {
	traffic, err := netns.TrafficOf(at, n.interfaces())
	if err != nil {
		r.events.log(rec).Warn("cannot read the counters of an interface", slog.Any("error", err))
		return
	}
	found, err := n.datapath.CompareTraffic(at, traffic)
	switch {
	case err != nil:
		r.events.log(rec).Warn("cannot compare the packets of an interface with those of the hook",
			slog.Any("error", err))
	case found.Meets && n.past.Swap(nil) != nil:
		r.events.report(slog.LevelInfo, api.EventRepair, rec, "packets pass through the hook again")
	case found.Past && n.past.Load() == nil:
		r.reportPast(n, rec, &found)
	}
}

// reportPast reports traffic past the hook.
func (r *Registry) reportPast(
	n lockedNetns, rec *state.Record, found *datapath.Comparison,
) {
	text := fmt.Sprintf("packets pass uninspected: %s received %d packets and sent %d since the "+
		"last verification, and the hook saw %d. They go past the IP stack of the pod's netns: "+
		"a virtual machine (Kata, KubeVirt) or gVisor, AF_PACKET or XDP, a bridge, tc mirred, "+
		"or a flowtable", rec.Ifname, found.Moved.RxPackets, found.Moved.TxPackets, found.Seen)
	n.past.Store(&text)
	r.events.report(slog.LevelError, api.EventPastHook, rec, text)
}

// receivesElsewhere refuses, under Fail, an interface whose packets are received
// in another netns. One that an earlier daemon attached stays: to detach it
// would leave more uninspected.
func (r *Registry) receivesElsewhere(a *attachment, ns *netns.NetNS) (bool, error) {
	elsewhere, err := r.elsewhere(ns, a.record.Ifname)
	if err != nil {
		return false, fmt.Errorf("look at interface %s: %w", a.record.Ifname, err)
	}
	if !elsewhere || a.restored || a.record.FailurePolicy != api.Fail {
		return elsewhere, nil
	}
	return true, api.Errorf(api.CodeInvalidNetns, "interface %s is an ipvlan in mode l3s: what it "+
		"receives never meets the hook, which failure policy Fail does not allow; use mode l2 or "+
		"l3, or failure policy Ignore", a.record.Ifname)
}

// reportElsewhere reports what nothing can change while the attachment lives.
func (r *Registry) reportElsewhere(rec *state.Record) {
	r.events.report(slog.LevelWarn, api.EventPastHook, rec, elsewhereText(rec))
}
