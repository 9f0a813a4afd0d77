// SPDX-License-Identifier: Apache-2.0

package compile

// conjuncts returns what must all be true for a value to be.
func (v *value) conjuncts() []value {
	if v.all != nil {
		return v.all
	}
	return []value{*v}
}

func (v *value) disjuncts() []value {
	if v.some != nil {
		return v.some
	}
	return []value{*v}
}

func and(a, b value) value {
	parts := append(append([]value{}, a.conjuncts()...), b.conjuncts()...)
	result := boolean(allOf(parts), a, b)
	result.all = parts
	return result
}

func or(a, b value) value {
	parts := append(append([]value{}, a.disjuncts()...), b.disjuncts()...)
	result := boolean(anyOf(parts), a, b)
	result.some = parts
	return result
}

func answers(parts []value) []func(*Flow) Tri {
	list := make([]func(*Flow) Tri, len(parts))
	for i := range parts {
		list[i] = parts[i].tri
	}
	return list
}

// allOf returns False as soon as one part is, whatever is unknown of the others.
func allOf(parts []value) func(*Flow) Tri {
	list := answers(parts)
	if len(list) == 1 {
		return list[0]
	}
	return func(f *Flow) Tri {
		answer := True
		for _, part := range list {
			switch part(f) {
			case False:
				return False
			case Unknown:
				answer = Unknown
			}
		}
		return answer
	}
}

// anyOf returns True as soon as one part is, whatever is unknown of the others.
func anyOf(parts []value) func(*Flow) Tri {
	list := answers(parts)
	return func(f *Flow) Tri {
		answer := False
		for _, part := range list {
			switch part(f) {
			case True:
				return True
			case Unknown:
				answer = Unknown
			}
		}
		return answer
	}
}

func not(v value) value {
	answer := v.tri
	return boolean(func(f *Flow) Tri { return opposite(answer(f)) }, v)
}

func opposite(t Tri) Tri {
	switch t {
	case False:
		return True
	case True:
		return False
	}
	return Unknown
}

// choose returns the value of condition ? a : b.
func choose(condition, a, b value) value {
	ask := condition.tri
	result := of(a.kind, condition, a, b)
	switch a.kind {
	case kindBool:
		result.tri = func(f *Flow) Tri {
			switch ask(f) {
			case True:
				return a.tri(f)
			case False:
				return b.tri(f)
			}
			return Unknown
		}
	case kindString:
		result.str = chosen(ask, a.str, b.str)
	case kindInt:
		result.num = chosen(ask, a.num, b.num)
	case kindIP:
		result.ip = chosen(ask, a.ip, b.ip)
	case kindList:
		result.list = chosen(ask, a.list, b.list)
	}
	return result
}

func chosen[T any](ask func(*Flow) Tri, a, b func(*Flow) (T, bool)) func(*Flow) (T, bool) {
	return func(f *Flow) (T, bool) {
		switch ask(f) {
		case True:
			return a(f)
		case False:
			return b(f)
		}
		var none T
		return none, false
	}
}
