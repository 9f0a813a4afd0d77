// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"

	"cel.dev/cel-go/cel"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

// variable is one of a document's own.
type variable struct {
	name    string
	value   value
	celType *cel.Type
	used    []string // names of sets and variables
	digest  digest
}

// namedSet is a set of names or networks that a document has.
type namedSet struct {
	name     string
	domains  *sets.Domains
	prefixes *sets.Prefixes
	digest   digest
}

// compiled is a set of rules that was compiled before, for taking over from it what is
// the same in another one. Equal digests stand for equal texts and for names that mean the
// same, so nothing would be compiled to anything else.
type compiled struct {
	set   *Set
	rules map[string]*Rule
}

// setsOf returns the sets of a program by their names.
func setsOf(p *Program) map[string]*compiled {
	if p == nil {
		return nil
	}
	all := make(map[string]*compiled, len(p.Sets))
	for _, set := range p.Sets {
		c := &compiled{set, make(map[string]*Rule, len(set.Rules))}
		for _, rule := range set.Rules {
			c.rules[rule.Name] = rule
		}
		all[set.Name] = c
	}
	return all
}

// sameNames takes names over that are written in a set, with those in its file.
func (s *scope) sameNames(set *setDocument, d digest) bool {
	if s.before == nil {
		return false
	}
	for i := range s.before.set.sets {
		if was := &s.before.set.sets[i]; was.name == set.name && was.digest == d {
			set.domains, set.prefixes = was.domains, was.prefixes
			return true
		}
	}
	return false
}

// sameVariable returns a variable that was compiled before.
func (s *scope) sameVariable(v *variableDocument) (variable, bool) {
	if s.before == nil {
		return variable{}, false
	}
	for _, was := range s.before.set.variables {
		if was.name == v.name && s.digestOf(v.text, was.used) == was.digest {
			return was, true
		}
	}
	return variable{}, false
}

// sameRule gives a rule what was compiled of an equal one of the same name.
func (s *scope) sameRule(r *ruleDocument) bool {
	if s.before == nil {
		return false
	}
	was := s.before.rules[r.rule.Name]
	if was == nil || s.digestOf(r.node, was.used) != was.digest {
		return false
	}
	r.rule.expressions = was.expressions
	return true
}

// usedNames returns the names of sets and variables that were found since used was made.
func (s *scope) usedNames() []string {
	if len(s.used) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(s.used))
}
