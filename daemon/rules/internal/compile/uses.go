// SPDX-License-Identifier: Apache-2.0

package compile

import "slices"

// ReadsNames reports whether the condition of a rule of the list has server.names, by
// itself or by a variable of its set.
func (l *List) ReadsNames() bool { return l.readsNames }

// ReadsUser reports whether the condition of a rule of the list has socket.uid so, or a
// message.
func (l *List) ReadsUser() bool { return l.readsUser }

// Inspectors returns the names of the inspectors that rules of the list leave flows to.
func (l *List) Inspectors() []string { return l.inspectors }

// addInspector notes the inspector of a step.
func (l *List) addInspector(s *step) {
	if s.action == Inspect && s.decides() && !slices.Contains(l.inspectors, s.rule.Inspector) {
		l.inspectors = append(l.inspectors, s.rule.Inspector)
	}
}

// uses reports whether a rule's condition has a variable.
func (l *List) uses(name string) bool {
	set := setOf(name)
	return slices.ContainsFunc(l.Rules(), func(r *Rule) bool { return r.clause.all()&set != 0 })
}

// says reports whether a rule's message has a variable.
func (l *List) says(name string) bool {
	set := setOf(name)
	return slices.ContainsFunc(l.Rules(), func(r *Rule) bool { return r.says&set != 0 })
}

// setOf returns the set of one variable, or none if there is no such variable.
func setOf(name string) nameSet {
	for _, v := range Variables() {
		if v.Name == name {
			return 1 << v.number
		}
	}
	return 0
}

// all returns the variables of a clause and of its parts.
func (c *clause) all() nameSet {
	names := c.names
	for i := range c.parts {
		names |= c.parts[i].all()
	}
	return names
}
