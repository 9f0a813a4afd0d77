// SPDX-License-Identifier: Apache-2.0

package compile

// nameSet is a set of variables by their numbers.
type nameSet uint64

// clause is a condition or a part of one, for telling what it waits for.
type clause struct {
	ask   func(*Flow) Tri
	names nameSet
	parts []clause // of a conjunction or a disjunction
}

func clauseOf(v value) clause {
	c := clause{ask: v.tri, names: v.names}
	for _, parts := range [][]value{v.all, v.some} {
		for _, part := range parts {
			c.parts = append(c.parts, clauseOf(part))
		}
	}
	return c
}

// unknown returns the variables of those parts whose answers are not known.
func (c *clause) unknown(f *Flow) (names nameSet) {
	if c.ask(f) != Unknown {
		return 0
	}
	for i := range c.parts {
		names |= c.parts[i].unknown(f)
	}
	if c.parts == nil {
		return c.names
	}
	return names
}

// WaitsFor returns the names of the variables that are not known of a flow and that the
// rule's condition waits for. It is empty if the condition is true or false.
func (r *Rule) WaitsFor(f *Flow) (names []string) {
	if r.flow == nil {
		return nil
	}
	waits := r.clause.unknown(f)
	for _, v := range Variables() {
		need := v.Reads & Everything
		if waits&(1<<v.number) != 0 && f.Known&need != need {
			names = append(names, v.Name)
		}
	}
	return names
}

// WaitsFor returns the names of the variables that an undecided flow waits for.
func (d Decision) WaitsFor(f *Flow) []string {
	switch {
	case d.Verdict != Undecided:
		return nil
	case d.Rule != nil:
		return d.Rule.WaitsFor(f)
	}
	return []string{"flow.midstream"}
}
