// SPDX-License-Identifier: Apache-2.0

package compile

import "path"

// Action is what a rule does with a flow, or a set with what no rule decided.
type Action uint8

// Accept, Inspect, Drop and Reject decide. Log, Mark and Count do something and the search
// goes on. Next ends the search in this set.
const (
	Accept Action = iota
	Inspect
	Drop
	Reject
	Log
	Mark
	Count
	Next
)

func actionNames() []string {
	return []string{"accept", "inspect", "drop", "reject", "log", "mark", "count", "next"}
}

// String returns the word that rules have for the action.
func (a Action) String() string { return actionNames()[a] }

// Set is a set of rules.
type Set struct {
	Name     string
	Source   string // the file that has the set
	Line     int
	Priority int
	// Audit says that the set decides nothing: what it would decide is an effect.
	Audit bool
	// Hold says that packets wait while this set is the one that has not decided.
	Hold    bool
	Default Action
	// AcceptMidstream says that a connection whose start nobody saw is accepted.
	AcceptMidstream bool
	Rules           []*Rule

	namespaces, excluded []string
	when                 func(*Flow) Tri // nil: all pods
	first                int             // the number of its first step
	steps                int
	sets                 []namedSet
	variables            []variable
	ofDefault            string // what the decision by its default is named
	ofMidstream          string
}

// Rule is a rule of a set.
type Rule struct {
	Set      *Set
	Name     string
	Line     int
	Action   Action
	Severity string // critical, high, medium, low, or empty
	// Settle says that the kernel may have the rest of a flow that the rule decided.
	Settle         bool
	Mark, MarkMask uint32
	// Inspector is the name of the one that decides, where the action is Inspect.
	Inspector string
	path      string // what decisions by the rule are named
	expressions
}

// expressions are what a rule asks and says. Equal rules of programs that follow each other
// share them.
type expressions struct {
	// When is the condition as it was written.
	When string
	// Reads has the stages that the condition reads.
	Reads Stage

	pod     func(*Flow) Tri // nil: all pods of the set
	flow    func(*Flow) Tri // nil: true
	clause  clause          // what flow is of
	keys    keys
	message func(*Flow) (string, bool)
	says    nameSet // variables in message
	used    []string
	digest  digest // of all that is written in the rule, and of what its names mean
}

// Message returns what the rule's author wanted to be told with an event. It makes a new
// text each time.
func (r *Rule) Message(f *Flow) string {
	if r.message == nil {
		return ""
	}
	text, _ := r.message(f)
	return text
}

// nameDecisions makes the names of what the set decides.
func (s *Set) nameDecisions() {
	s.ofDefault, s.ofMidstream = s.Name+"/"+byDefault, s.Name+"/"+byMidstream
	for _, r := range s.Rules {
		r.path = s.Name + "/" + r.Name
	}
}

// Selects reports whether the set's rules are for a pod.
func (s *Set) Selects(pod *Pod) bool { return s.selects(&Flow{Pod: pod}) }

// selects reports whether the set's rules are for the pod of the flow.
func (s *Set) selects(f *Flow) bool {
	if s.namespaces != nil && !matchAny(s.namespaces, f.Pod.Namespace) {
		return false
	}
	if matchAny(s.excluded, f.Pod.Namespace) {
		return false
	}
	return s.when == nil || s.when(f) == True
}

func matchAny(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}
