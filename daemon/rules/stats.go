// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// Stats are numbers of an Inspector. Its counters only grow, whatever comes and goes.
type Stats struct {
	Pods, Flows, Undecided int
	// Memory is how many bytes of the node's limit are taken.
	Memory int64
	// Decisions are counts of what rules decided or did, in the order of the rules.
	// Those of the same names go on when rules are replaced.
	Decisions []Hits
	// Totals are the same counts by set and action, in no order. They do not fall when
	// rules of a set are replaced.
	Totals []Total
	// Verdicts are decisions by verdict: accept, inspect, reject, drop.
	Verdicts map[string]uint64
	// Errors are counts by app.protocol and app.error.
	Errors map[[2]string]uint64
	// Checksums and Outside are packets that were dropped because of a wrong checksum,
	// or because nobody could have kept their bytes.
	Checksums, Outside uint64
	// Conflicts and Subflows are as the kinds of a [Note].
	Conflicts, Subflows uint64
	// Names are about questions of pods whose rules ask for server.names.
	Names NameStats
	// Replaced is how often rules were replaced.
	Replaced uint64
}

// NameStats count what was seen of the resolving of names.
type NameStats = judge.NameStats

// Hits is how often something decided, or had an effect.
type Hits struct {
	Set, Rule string // Rule is default or midstream where no rule is meant
	Action    string
	Audit     bool
	Count     uint64
	// Last is when, by the clock of the Inspector; 0 for never.
	Last time.Duration
}

// Total is how often the rules of a set decided, or had an effect, with an action.
type Total struct {
	Set, Action string // Set is empty where no set decided
	Audit       bool
	Count       uint64
}

// PodStats are numbers of a pod.
type PodStats struct {
	Attachment       *inspect.Attachment
	Flows, Undecided int
	Memory           int64
	// Refused is how many flows and messages of the pod were rejected or dropped, on all
	// interfaces that it has and had while there was one.
	Refused uint64
	// ReadsNames says that some of its rules ask for server.names.
	ReadsNames bool
}

// Stats returns the numbers of the moment, or of a pod that is busy all the time its last
// ones: it waits for no packet.
func (i *Inspector) Stats() Stats {
	l := i.loaded.Load()
	s := Stats{
		Memory: i.node.Used(), Decisions: l.hits(), Totals: l.sums(),
		Verdicts: map[string]uint64{
			"accept": i.counts.accepted.Load(), "reject": i.counts.rejected.Load(),
			"drop": i.counts.dropped.Load(), "inspect": i.counts.inspected.Load(),
		},
		Conflicts: i.counts.conflicts.Load(), Subflows: i.counts.subflows.Load(),
		Replaced: i.counts.replaced.Load(), Errors: make(map[[2]string]uint64),
	}
	pods := i.all(&s)
	s.Pods = len(pods)
	for _, p := range pods {
		of := p.stats()
		s.Flows += of.Flows
		s.Undecided += of.Undecided
		add(&s, &of)
	}
	return s
}

// PodStats returns the numbers of each pod, in no order.
func (i *Inspector) PodStats() []PodStats {
	pods := i.all(nil)
	list := make([]PodStats, 0, len(pods))
	for _, p := range pods {
		s := p.stats()
		list = append(list, PodStats{
			Attachment: p.attachment, Flows: s.Flows, Undecided: s.Undecided, Memory: s.Memory,
			Refused: p.refused.count.Load(), ReadsNames: s.ReadsNames,
		})
	}
	return list
}
