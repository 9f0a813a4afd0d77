// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// loaded are the rules in use, with their counters.
type loaded struct {
	rules  *Rules
	order  []*hit
	index  map[cause]*hit
	totals map[kind]*atomic.Uint64
}

// kind is what counts of a set are told apart by, whatever its rules are named.
type kind struct {
	set, action string
	audit       bool
}

// cause is what decides or has an effect.
type cause struct {
	set       *Set
	rule      *Rule
	midstream bool
}

// hit counts what a cause did.
type hit struct {
	set, rule, action string
	audit             bool
	*counter
	total *atomic.Uint64 // of all of its kind
}

// counter is shared by what has the same name in rules that follow each other: packets are
// still judged by the old ones while others are prepared.
type counter struct{ count, last atomic.Uint64 }

// load prepares the counters of rules. Those of the same name go on.
func load(rules *Rules, before *loaded) *loaded {
	l := &loaded{
		rules: rules, index: make(map[cause]*hit), totals: make(map[kind]*atomic.Uint64),
	}
	old := make(map[[2]string]*hit)
	if before != nil {
		l.keepTotals(before)
		for _, h := range before.order {
			old[[2]string{h.set, h.rule}] = h
		}
	}
	if rules != nil {
		for _, set := range rules.program.Sets {
			l.addSet(set, old)
		}
	}
	l.add(cause{}, compile.Accept, old)
	return l
}

// keepTotals takes over those of sets that are still there. They go on when rules of a set
// come and go, so that no total of a set ever falls.
func (l *loaded) keepTotals(before *loaded) {
	sets := map[string]bool{"": true}
	if l.rules != nil {
		for _, set := range l.rules.program.Sets {
			sets[set.Name] = true
		}
	}
	for k, total := range before.totals {
		if sets[k.set] {
			l.totals[k] = total
		}
	}
}

func (l *loaded) addSet(set *Set, old map[[2]string]*hit) {
	for _, rule := range set.Rules {
		l.add(cause{set: set, rule: rule}, rule.Action, old)
	}
	if set.Default != compile.Next {
		l.add(cause{set: set}, set.Default, old)
	}
	l.add(cause{set: set, midstream: true}, compile.Accept, old)
}

func (l *loaded) add(c cause, action compile.Action, old map[[2]string]*hit) {
	h := &hit{action: action.String(), audit: c.set != nil && c.set.Audit}
	h.set, h.rule = NamesOf(c.set, c.rule, c.midstream)
	if o := old[[2]string{h.set, h.rule}]; o != nil {
		h.counter = o.counter
	} else {
		h.counter = new(counter)
	}
	k := kind{h.set, h.action, h.audit}
	if l.totals[k] == nil {
		l.totals[k] = new(atomic.Uint64)
	}
	h.total = l.totals[k]
	l.index[c] = h
	l.order = append(l.order, h)
}

// note counts what happened.
func (l *loaded) note(n *Note, now time.Duration) {
	if h := l.index[cause{n.Set, n.Rule, n.Midstream}]; h != nil {
		h.count.Add(1)
		h.total.Add(1)
		h.last.Store(uint64(now))
	}
}

func (l *loaded) hits() []Hits {
	list := make([]Hits, len(l.order))
	for i, h := range l.order {
		list[i] = Hits{
			Set: h.set, Rule: h.rule, Action: h.action, Audit: h.audit,
			Count: h.count.Load(), Last: time.Duration(h.last.Load()),
		}
	}
	return list
}

func (l *loaded) sums() []Total {
	list := make([]Total, 0, len(l.totals))
	for k, total := range l.totals {
		list = append(list, Total{
			Set: k.set, Action: k.action, Audit: k.audit, Count: total.Load(),
		})
	}
	return list
}
