// SPDX-License-Identifier: Apache-2.0

package compile

// ReadsNames reports whether the condition of a rule of the list has server.names, by
// itself or by a variable of its set.
func (l *List) ReadsNames() bool { return l.readsNames }

// uses reports whether a rule's condition has a variable.
func (l *List) uses(name string) bool {
	var names nameSet
	for _, v := range Variables() {
		if v.Name == name {
			names = 1 << v.number
		}
	}
	for _, rule := range l.Rules() {
		if rule.clause.all()&names != 0 {
			return true
		}
	}
	return false
}

// all returns the variables of a clause and of its parts.
func (c *clause) all() nameSet {
	names := c.names
	for i := range c.parts {
		names |= c.parts[i].all()
	}
	return names
}
