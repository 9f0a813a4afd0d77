// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// resolving counts questions to resolvers that rules refuse.
type resolving struct {
	mu        sync.Mutex
	refused   uint64
	set, rule string // that have refused the last one
}

const portDNS = 53

// note takes a decision.
func (r *resolving) note(resolvers []netip.Addr, n *rules.Note) {
	f := n.Flow
	refused := n.Verdict == rules.Rejected || n.Verdict == rules.Dropped
	if !refused || f.ServerPort != portDNS || f.Direction != "out" ||
		!slices.Contains(resolvers, f.ServerIP.Unmap()) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
	r.set, r.rule = rules.NamesOf(n.Set, n.Rule, n.Midstream)
}

// last returns how many there were, and what has refused the last one.
func (r *resolving) last() (n uint64, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == 0 {
		return 0, ""
	}
	return r.refused, r.set + "/" + r.rule
}

// serverNames says how the names of servers become known; nil where no rule asks for them.
func (p *Policy) serverNames(s *rules.NameStats) *api.ServerNames {
	names := &api.ServerNames{
		Resolvers: []string{}, Questions: s.Asked, Answers: s.Answers, Others: s.Others,
	}
	for _, pod := range p.inspector.PodStats() {
		if pod.ReadsNames {
			names.Attachments++
		}
	}
	if names.Attachments == 0 {
		return nil
	}
	for _, a := range p.config.Resolvers {
		names.Resolvers = append(names.Resolvers, a.String())
	}
	if s.Other.IsValid() {
		names.Other = s.Other.String()
	}
	names.Refused, names.RefusedBy = p.resolving.last()
	return names
}
