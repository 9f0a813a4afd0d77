// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// loaded are the rules in use, with their counters.
type loaded struct {
	rules *Rules
	order []*hit
	index map[cause]*hit
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
}

// counter is shared by what has the same name in rules that follow each other: packets are
// still judged by the old ones while others are prepared.
type counter struct{ count, last atomic.Uint64 }

// load prepares the counters of rules. Those of the same name go on.
func load(rules *Rules, before *loaded) *loaded {
	l := &loaded{rules: rules, index: make(map[cause]*hit)}
	old := make(map[[2]string]*hit)
	if before != nil {
		for _, h := range before.order {
			old[[2]string{h.set, h.rule}] = h
		}
	}
	if rules != nil {
		for _, set := range rules.program.Sets {
			l.addSet(set, old)
		}
	}
	l.add(cause{}, &hit{action: compile.Accept.String()}, old)
	return l
}

func (l *loaded) addSet(set *Set, old map[[2]string]*hit) {
	for _, rule := range set.Rules {
		l.add(cause{set: set, rule: rule}, &hit{
			set: set.Name, rule: rule.Name, action: rule.Action.String(), audit: set.Audit,
		}, old)
	}
	if set.Default != compile.Next {
		l.add(cause{set: set}, &hit{
			set: set.Name, rule: "default", action: set.Default.String(), audit: set.Audit,
		}, old)
	}
	l.add(cause{set: set, midstream: true}, &hit{
		set: set.Name, rule: "midstream", action: compile.Accept.String(), audit: set.Audit,
	}, old)
}

func (l *loaded) add(c cause, h *hit, old map[[2]string]*hit) {
	if o := old[[2]string{h.set, h.rule}]; o != nil {
		h.counter = o.counter
	} else {
		h.counter = new(counter)
	}
	l.index[c] = h
	l.order = append(l.order, h)
}

// note counts what happened.
func (l *loaded) note(n *Note, now time.Duration) {
	if h := l.index[cause{n.Set, n.Rule, n.Midstream}]; h != nil {
		h.count.Add(1)
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
