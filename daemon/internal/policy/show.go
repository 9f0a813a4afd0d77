// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Rules returns the rules in force, and what is wrong with files.
func (p *Policy) Rules() api.Rules {
	stats, concerned := p.inspector.Stats(), p.concerned()
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := api.Rules{
		Directory: p.config.Directories[0], Directories: slices.Clone(p.config.Directories),
		Files: []string{}, Sets: []api.RuleSet{},
		Errors: append([]api.RuleError{}, p.errs...), Flows: stats.Flows,
		Undecided: stats.Undecided, Memory: stats.Memory, Verdicts: stats.Verdicts,
		ServerNames: p.serverNames(&stats.Names),
	}
	if p.rules == nil {
		return answer
	}
	loaded := p.loaded.UTC()
	answer.Loaded, answer.Files = &loaded, p.rules.Files()
	hits := p.hits(stats.Decisions)
	for _, set := range p.rules.Sets() {
		answer.Sets = append(answer.Sets, setOf(set, hits, concerned[set.Name]))
	}
	return answer
}

// concerned returns for how many attachments each set has rules.
func (p *Policy) concerned() map[string]int {
	n := make(map[string]int)
	for _, pod := range p.inspector.PodStats() {
		if list, ok := p.inspector.Of(pod.Attachment); ok && list != nil {
			for _, set := range list.Sets() {
				n[set.Name]++
			}
		}
	}
	return n
}

// hit is how often a rule of a set decided or did something.
type hit struct {
	count uint64
	last  *time.Time
}

// hits returns those of each rule, by set/rule.
func (p *Policy) hits(decisions []rules.Hits) map[string]hit {
	all := make(map[string]hit, len(decisions))
	for _, d := range decisions {
		name := d.Set + "/" + d.Rule
		h := all[name]
		h.count += d.Count
		if d.Last > 0 {
			last := p.begin.Add(d.Last).UTC()
			if h.last == nil || h.last.Before(last) {
				h.last = &last
			}
		}
		all[name] = h
	}
	return all
}

func setOf(set *rules.Set, hits map[string]hit, attachments int) api.RuleSet {
	shown := api.RuleSet{
		Name: set.Name, Priority: set.Priority, Mode: modeOf(set), File: set.Source,
		Line: set.Line, Attachments: attachments,
	}
	add := func(name, action string, line int) {
		h := hits[set.Name+"/"+name]
		shown.Rules = append(shown.Rules, api.Rule{
			Name: name, Action: action, Line: line, Hits: h.count, LastHit: h.last,
		})
	}
	for _, r := range set.Rules {
		add(r.Name, r.Action.String(), r.Line)
	}
	if set.AcceptMidstream {
		add("midstream", rules.AcceptIt.String(), 0)
	}
	add("default", set.Default.String(), 0)
	return shown
}

func modeOf(set *rules.Set) string {
	if set.Audit {
		return "Audit"
	}
	return "Enforce"
}

// Of returns the rules that concern an attachment, in the order in which they are asked.
func (p *Policy) Of(key api.Key) ([]api.EffectiveRule, bool) {
	pods := p.inspector.PodStats()
	i := slices.IndexFunc(pods, func(s rules.PodStats) bool {
		return s.Attachment.ContainerID == key.ContainerID && s.Attachment.Ifname == key.Ifname
	})
	if i < 0 {
		return nil, false
	}
	list, _ := p.inspector.Of(pods[i].Attachment)
	if list == nil {
		return nil, true
	}
	var all []api.EffectiveRule
	of := list.Rules()
	for _, set := range list.Sets() {
		for len(of) > 0 && of[0].Set == set {
			all = append(all, api.EffectiveRule{
				Set: set.Name, Rule: of[0].Name, Action: of[0].Action.String(), Mode: modeOf(set),
				When: strings.TrimSpace(of[0].When),
			})
			of = of[1:]
		}
		all = append(all, api.EffectiveRule{
			Set: set.Name, Rule: "default", Action: set.Default.String(), Mode: modeOf(set),
		})
	}
	return all, true
}

// Names returns what pods asked for within a time until now, 0 for all.
func (p *Policy) Names(since time.Duration) api.ObservedNames { return p.names.list(since) }

// Numbers are for metrics.
type Numbers struct {
	rules.Stats

	// Refused has what was refused of each pod.
	Refused map[api.Pod]uint64
	// Accepted and Failed are readings of the files. Succeeded says how the last one
	// ended, and Age how long ago the rules in force were read.
	Accepted, Failed uint64
	Succeeded        bool
	Age              time.Duration
	// Dropped events had no room, Suppressed ones were too many of a rule.
	Dropped, Suppressed uint64
}

// Numbers returns those of the moment.
func (p *Policy) Numbers() Numbers {
	n := Numbers{
		Stats: p.inspector.Stats(), Refused: make(map[api.Pod]uint64),
		Dropped: p.events.dropped(), Suppressed: p.events.limiter.Suppressed(),
	}
	for _, s := range p.inspector.PodStats() {
		a := s.Attachment
		n.Refused[api.Pod{Namespace: a.PodNamespace, Name: a.PodName}] = s.Refused
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.Accepted, n.Failed, n.Succeeded = p.reloads[true], p.reloads[false], len(p.errs) == 0
	if p.rules != nil {
		n.Age = time.Since(p.loaded)
	}
	return n
}

// State returns what a status tells.
func (p *Policy) State() *api.RulesState {
	s := &api.RulesState{
		Directory: p.config.Directories[0], Directories: slices.Clone(p.config.Directories),
		Problem: p.Problem(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules != nil {
		loaded := p.loaded.UTC()
		s.Loaded, s.Sets = &loaded, len(p.rules.Sets())
	}
	return s
}

// Problem says what is wrong with the rules, or nothing.
func (p *Policy) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) == 0 {
		return ""
	}
	return "rules are refused: " + p.errs[0].String()
}
