// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"net/netip"
	"slices"

	"cel.dev/cel-go/common/operators"
)

// equal returns whether two values of one kind are equal, or false if the kind has no
// such question.
func equal(a, b value) (value, bool) {
	if a.constant && !b.constant {
		a, b = b, a
	}
	if a.variable != nil && b.constant && (a.kind == kindString || a.kind == kindInt) {
		return equalVariable(a, b), true
	}
	switch a.kind {
	case kindBool:
		return boolean(equalBool(a.tri, b.tri), a, b), true
	case kindString:
		return boolean(equalTo(a.str, b.str), a, b), true
	case kindInt:
		return boolean(equalTo(a.num, b.num), a, b), true
	case kindIP:
		return boolean(equalIP(a.ip, b.ip), a, b), true
	case kindList:
		if a.list == nil || b.list == nil {
			return value{}, false
		}
		return boolean(equalLists(a.list, b.list), a, b), true
	}
	return value{}, false
}

// equalVariable returns whether a variable is equal to a literal text or number.
func equalVariable(a, b value) (result value) {
	if a.kind == kindString {
		result = boolean(equalConst(a.reads, a.variable.str, b.text), a, b)
	} else {
		result = boolean(equalConst(a.reads, a.variable.num, b.number), a, b)
	}
	result.equals = &equality{a.variable, []value{b}}
	return result
}

func equalConst[T comparable](need Stage, get func(*Flow) T, want T) func(*Flow) Tri {
	need &= Everything
	return func(f *Flow) Tri {
		if f.Known&need != need {
			return Unknown
		}
		return tri(get(f) == want)
	}
}

func equalTo[T comparable](a, b func(*Flow) (T, bool)) func(*Flow) Tri {
	return both(a, b, func(x, y T) bool { return x == y })
}

func equalIP(a, b func(*Flow) (netip.Addr, bool)) func(*Flow) Tri {
	return both(a, b, func(x, y netip.Addr) bool { return x.Unmap() == y.Unmap() })
}

func equalLists(a, b func(*Flow) ([]string, bool)) func(*Flow) Tri {
	return both(a, b, slices.Equal[[]string])
}

func equalBool(a, b func(*Flow) Tri) func(*Flow) Tri {
	return func(f *Flow) Tri {
		x, y := a(f), b(f)
		if x == Unknown || y == Unknown {
			return Unknown
		}
		return tri(x == y)
	}
}

// both asks a question about two values as soon as both are known.
func both[A, B any](
	a func(*Flow) (A, bool), b func(*Flow) (B, bool), ask func(A, B) bool,
) func(*Flow) Tri {
	return func(f *Flow) Tri {
		x, ok := a(f)
		if !ok {
			return Unknown
		}
		y, ok := b(f)
		if !ok {
			return Unknown
		}
		return tri(ask(x, y))
	}
}

// less returns the answer of <, <=, > or >=, or false if the kind has no order.
func less(operator string, a, b value) (value, bool) {
	switch a.kind {
	case kindInt:
		return boolean(both(a.num, b.num, ordered[int64](operator)), a, b), true
	case kindString:
		return boolean(both(a.str, b.str, ordered[string](operator)), a, b), true
	}
	return value{}, false
}

func ordered[T cmp.Ordered](operator string) func(x, y T) bool {
	switch operator {
	case operators.Less:
		return func(x, y T) bool { return x < y }
	case operators.LessEquals:
		return func(x, y T) bool { return x <= y }
	case operators.Greater:
		return func(x, y T) bool { return x > y }
	default:
		return func(x, y T) bool { return x >= y }
	}
}
