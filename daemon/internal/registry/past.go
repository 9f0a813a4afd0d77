// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// What counts as traffic that goes past the hook, in so many looks in a row.
const (
	pastLooks = 2
	// pastPackets are too many, in each direction and between two looks, for the
	// link's own protocols, and pastSize is more than the average of ARP.
	pastPackets = 100
	pastSize    = 64
	// pastRatio is how many packets of the interface there are at least for each
	// that the hook saw. Of merged ones (segmentation offload) there are fewer.
	pastRatio = 1000
)

// look is what was seen at a verification of the traffic of a binding.
type look struct {
	// known says that traffic is what an earlier look saw.
	known   bool
	traffic netns.Traffic
	read    uint64 // packets that the readers had
	hook    uint64 // packets that the hook decided about
	sent    uint64 // packets that the IP stack sent, where sentKnown
	// sentKnown: the stack is asked only of pods that are suspected.
	sentKnown bool
	missed    int // looks in a row that found traffic past the hook
}

// compare looks whether the traffic of the interfaces meets the hook. The caller
// holds b.mu.
func (r *Registry) compare(b *binding, at netns.Place, rec *state.Record) {
	traffic, err := netns.TrafficOf(at, b.interfaces())
	if err != nil {
		r.log(rec).Warn("traffic of the interface not read", slog.Any("error", err))
		return
	}
	last := &b.looked
	moved, known := grown(last.traffic, traffic), last.known
	last.traffic, last.known = traffic, true
	seen, err := b.seen(at, moved)
	switch {
	case err != nil:
		r.log(rec).Warn("traffic not compared with the hook's", slog.Any("error", err))
	case !known:
	case meets(moved, seen):
		r.meetsAgain(b, rec)
	case significant(moved):
		r.misses(b, rec, moved, seen)
	default:
		last.missed = 0
	}
}

// interfaces returns the names of the members' interfaces, each once.
func (b *binding) interfaces() []string {
	names := make([]string, 0, 1)
	for key := range b.members {
		if !slices.Contains(names, key.Ifname) {
			names = append(names, key.Ifname)
		}
	}
	return names
}

// grown returns what came since. Counters begin anew with an interface.
func grown(from, to netns.Traffic) netns.Traffic {
	return netns.Traffic{
		RxBytes:   growth(from.RxBytes, to.RxBytes),
		RxPackets: growth(from.RxPackets, to.RxPackets),
		TxBytes:   growth(from.TxBytes, to.TxBytes),
		TxPackets: growth(from.TxPackets, to.TxPackets),
	}
}

// meets reports whether the hook saw a plausible part of the traffic. It may
// have seen more than the interfaces: other ones are in the netns.
func meets(moved netns.Traffic, seen uint64) bool {
	return seen > 0 && seen >= (moved.RxPackets+moved.TxPackets)/pastRatio
}

// significant reports whether traffic is more than what a link needs itself, or
// what comes for others.
func significant(moved netns.Traffic) bool {
	return moved.RxPackets >= pastPackets && moved.TxPackets >= pastPackets &&
		moved.RxBytes > pastSize*moved.RxPackets && moved.TxBytes > pastSize*moved.TxPackets
}

// seen returns how many packets have met the hook since it was asked last. The
// readers know for nothing of most pods, and only where they do not, the hook is
// asked, whose count may then include packets of earlier looks.
func (b *binding) seen(at netns.Place, moved netns.Traffic) (uint64, error) {
	last := &b.looked
	read := b.counters().Packets
	seen := growth(last.read, read)
	last.read = read
	if meets(moved, seen) || !significant(moved) {
		return seen, nil
	}
	c, err := b.parts.handle.Counters()
	if err != nil {
		return 0, err
	}
	counted := c.Queued + c.Settled
	seen = max(seen, growth(last.hook, counted))
	last.hook = counted
	if meets(moved, seen) || selectsAll(&b.parts.selector) {
		return seen, nil
	}
	return b.sentBeside(at, seen)
}

func selectsAll(s *hook.Selector) bool {
	return s.Directions == hook.AllDirections && len(s.Protocols) == 0
}

// sentBeside adds to what the hook counted what the IP stack sent: of a selection
// the hook does not count the rest, and that did meet it.
func (b *binding) sentBeside(at netns.Place, seen uint64) (uint64, error) {
	sent, err := netns.Sent(at)
	if err != nil {
		return 0, err
	}
	last := &b.looked
	if last.sentKnown {
		seen += growth(last.sent, sent)
	}
	last.sent, last.sentKnown = sent, true
	return seen, nil
}

func (r *Registry) meetsAgain(b *binding, rec *state.Record) {
	b.looked.missed = 0
	if b.past.Swap(nil) != nil {
		r.report(slog.LevelInfo, api.EventRepair, rec, "packets meet the hook again")
	}
}

// misses reports traffic past the hook, once.
func (r *Registry) misses(b *binding, rec *state.Record, moved netns.Traffic, seen uint64) {
	if b.looked.missed++; b.looked.missed < pastLooks || b.past.Load() != nil {
		return
	}
	text := fmt.Sprintf("packets pass uninspected: %s received %d packets and sent %d since the "+
		"last verification, and the hook saw %d. They go past the IP stack of the pod's netns: "+
		"a virtual machine (Kata, KubeVirt) or gVisor, AF_PACKET or XDP, a bridge, tc mirred, "+
		"or a flowtable", rec.Ifname, moved.RxPackets, moved.TxPackets, seen)
	b.past.Store(&text)
	r.report(slog.LevelError, api.EventPastHook, rec, text)
}

// receivesElsewhere refuses, under Fail, an interface whose packets are received
// in another netns. One that an earlier daemon attached stays: to let go of it
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

// warnOfElsewhere reports what nothing can change while the attachment lives.
func (r *Registry) warnOfElsewhere(rec *state.Record) {
	r.report(slog.LevelWarn, api.EventPastHook, rec, elsewhereText(rec))
}
