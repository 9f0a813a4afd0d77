// SPDX-License-Identifier: Apache-2.0

package compile

import "slices"

// Verdict is what becomes of a flow. Of several, the greatest is the strictest.
type Verdict uint8

// Accepted, Inspected, Rejected and Dropped are decisions. A flow is Undecided until a
// rule's answer is known. The packets of one that is Inspected are another inspector's.
const (
	Undecided Verdict = iota
	Accepted
	Inspected
	Rejected
	Dropped
)

// String returns the verdict in the words of logs.
func (v Verdict) String() string {
	return [...]string{"undecided", "accept", "inspect", "reject", "drop"}[v]
}

// Refuses reports whether the flow does not go on.
func (v Verdict) Refuses() bool { return v == Rejected || v == Dropped }

func (a Action) verdict() Verdict {
	switch a {
	case Inspect:
		return Inspected
	case Drop:
		return Dropped
	case Reject:
		return Rejected
	}
	return Accepted
}

// Decision is the answer of a list of rules.
type Decision struct {
	Verdict Verdict
	// Set and Rule are what decided, or has not yet. Rule is nil for the default of a set
	// or what it does midstream, and Set is nil after the end of all sets.
	Set  *Set
	Rule *Rule
	// Midstream tells what a set does midstream from its default.
	Midstream bool
}

// Settle reports whether the kernel may have the rest of a flow that is decided.
func (d Decision) Settle() bool {
	return d.Verdict != Undecided && d.Verdict != Inspected && (d.Rule == nil || d.Rule.Settle)
}

// Inspector is the name of the one that decides about a flow that is Inspected.
func (d Decision) Inspector() string {
	if d.Verdict != Inspected {
		return ""
	}
	return d.Rule.Inspector
}

// Name returns what decided as set/rule, set/default or set/midstream, or nothing after
// the end of all sets. The text is as old as the rules.
func (d Decision) Name() string { return nameOf(d.Set, d.Rule, d.Midstream) }

func nameOf(set *Set, rule *Rule, midstream bool) string {
	switch {
	case set == nil:
		return ""
	case rule != nil:
		return rule.path
	case midstream:
		return set.ofMidstream
	}
	return set.ofDefault
}

// What stands for a rule in the name of a decision that no rule has made.
const (
	byDefault   = "default"
	byMidstream = "midstream"
)

// Nobody is the name of the set that packets are refused by which no rule has refused.
const Nobody = "nsqueue"

// NamesOf returns the names of what decides or has an effect: of a set, and of its rule,
// which is default or midstream where no rule is meant. Both are empty after the end of
// all sets.
func NamesOf(set *Set, rule *Rule, midstream bool) (ofSet, ofRule string) {
	switch {
	case set == nil:
		return "", ""
	case rule != nil:
		return set.Name, rule.Name
	case midstream:
		return set.Name, byMidstream
	}
	return set.Name, byDefault
}

// Effect is what a rule does besides deciding, or would do if its set did not audit.
type Effect struct {
	Set       *Set
	Rule      *Rule // nil as in a Decision
	Midstream bool
	Action    Action
	// Audit says that the set only tells what it would do. A mark is not set then.
	Audit bool
}

// Name returns what has the effect, as the name of a Decision.
func (e Effect) Name() string { return nameOf(e.Set, e.Rule, e.Midstream) }

// Progress is how far a flow has come in its list. The zero value is the start. Facts of a
// flow only become known, so rules that were false are not asked again. For another list,
// begin with Reset.
type Progress struct {
	next int
	done []uint16 // steps whose effects the flow has had
	// Effects are those of the last call of Decide. Each step has its effect once a flow.
	Effects []Effect
}

// Again goes to the start of the list, for another message of the same flow.
func (p *Progress) Again() { p.next = 0 }

// Reset makes the progress that of a new flow, and keeps its memory.
func (p *Progress) Reset() {
	*p = Progress{done: p.done[:0], Effects: p.Effects[:0]}
}

// Decide asks the rules from where the progress is, up to the first that is not false. If
// that one is not known yet, the flow is undecided: ask again when more is known.
func (l *List) Decide(f *Flow, p *Progress) Decision {
	p.Effects = p.Effects[:0]
	if l.index != nil {
		return l.decideByIndex(f, p)
	}
	for p.next < len(l.numbers) {
		if decision, ok := l.ask(f, p); ok {
			return decision
		}
	}
	return Decision{Verdict: Accepted}
}

func (l *List) decideByIndex(f *Flow, p *Progress) Decision {
	var c candidates
	c.start(l.index, l.program.seed, f, p.next)
	for p.next = c.next(p.next); p.next < len(l.numbers); p.next = c.next(p.next) {
		if decision, ok := l.ask(f, p); ok {
			return decision
		}
	}
	return Decision{Verdict: Accepted}
}

// ask asks the step where the progress is. It returns false if the search goes on.
func (l *List) ask(f *Flow, p *Progress) (Decision, bool) {
	number := l.numbers[p.next]
	s := &l.program.steps[number]
	switch answer := s.answer(f); {
	case answer == Unknown:
		return Decision{Set: s.set, Rule: s.rule, Midstream: s.midstream}, true
	case answer == False:
		p.next++
	case s.decides():
		return Decision{
			Verdict: s.action.verdict(), Set: s.set, Rule: s.rule, Midstream: s.midstream,
		}, true
	default:
		l.goOn(p, number, s)
	}
	return Decision{}, false
}

// decides reports whether the search ends with the step if it is true.
func (s *step) decides() bool { return s.action <= Reject && !s.set.Audit }

// goOn notes the effect of a step that is true and goes to the next one to ask.
func (l *List) goOn(p *Progress, number uint16, s *step) {
	if s.action != Next && !slices.Contains(p.done, number) {
		p.done = append(p.done, number)
		p.Effects = append(p.Effects, Effect{
			Set: s.set, Rule: s.rule, Midstream: s.midstream, Action: s.action, Audit: s.set.Audit,
		})
	}
	p.next = l.after(p.next)
}

// after returns the index of the step that is asked after one that is true and does not
// decide.
func (l *List) after(i int) int {
	s := &l.program.steps[l.numbers[i]]
	i++
	if s.action == Log || s.action == Mark || s.action == Count {
		return i
	}
	for i < len(l.numbers) && l.program.steps[l.numbers[i]].set == s.set {
		i++
	}
	return i
}

// Final reports whether no later message of a flow can be decided otherwise: it asks the
// list as if nothing of the messages of these stages were known.
func (l *List) Final(f *Flow, messages Stage) bool {
	known := f.Known
	f.Known &^= messages
	defer func() { f.Known = known }()
	if l.index == nil {
		for i := 0; i < len(l.numbers); {
			next, final := l.foresee(f, i)
			if next < 0 {
				return final
			}
			i = next
		}
		return true
	}
	var c candidates
	c.start(l.index, l.program.seed, f, 0)
	for i := c.next(0); i < len(l.numbers); {
		next, final := l.foresee(f, i)
		if next < 0 {
			return final
		}
		i = c.next(next)
	}
	return true
}

// foresee returns the step that is asked after the one at i, or −1 and whether that one
// decides.
func (l *List) foresee(f *Flow, i int) (next int, final bool) {
	s := &l.program.steps[l.numbers[i]]
	switch answer := s.answer(f); {
	case answer == Unknown:
		return -1, false
	case answer == False:
		return i + 1, false
	case s.decides():
		return -1, true
	}
	return l.after(i), false
}

func (s *step) answer(f *Flow) Tri {
	if s.ask == nil {
		return True
	}
	return s.ask(f)
}
