// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"slices"
)

// maxNesting is how deep exists and all stand in each other.
const maxNesting = 4

// many is the size from which a map finds something faster than a look at each.
const many = 9

// literalList returns the value of a list that is written out.
func literalList(items []value) value {
	result := of(kindList, items...)
	result.items, result.literal = items, true
	texts := make([]string, 0, len(items))
	for i := range items {
		if items[i].kind != kindString || !items[i].constant {
			return result
		}
		texts = append(texts, items[i].text)
	}
	result.list = func(*Flow) ([]string, bool) { return texts, true }
	return result
}

// constants returns whether all elements of a written list are literals.
func (v *value) constants() bool {
	return v.literal && !slices.ContainsFunc(v.items, func(i value) bool { return !i.constant })
}

func (v *value) numbers() []int64 {
	list := make([]int64, len(v.items))
	for i := range v.items {
		list[i] = v.items[i].number
	}
	return list
}

func (v *value) addresses() []netip.Addr {
	list := make([]netip.Addr, len(v.items))
	for i := range v.items {
		list[i] = v.items[i].addr
	}
	return list
}

// in returns whether x is an element of a list, or false if that cannot be asked.
func in(x, list value) (value, bool) {
	switch {
	case list.list != nil && x.kind == kindString:
		if list.constants() {
			texts, _ := list.list(nil)
			return inConstants(member(x.str, texts), x, list), true
		}
		return boolean(both(x.str, list.list, func(text string, all []string) bool {
			return slices.Contains(all, text)
		}), x, list), true
	case !list.literal:
		return value{}, false
	case list.constants() && x.kind == kindInt:
		return inConstants(member(x.num, list.numbers()), x, list), true
	case list.constants() && x.kind == kindIP:
		return boolean(member(unmapped(x.ip), list.addresses()), x, list), true
	}
	return inComputed(x, list)
}

// inConstants returns the value of a question whether x is among literals.
func inConstants(answer func(*Flow) Tri, x, list value) value {
	result := boolean(answer, x, list)
	if x.variable != nil && len(list.items) > 0 && len(list.items) <= maxKeys {
		result.equals = &equality{x.variable, list.items}
	}
	return result
}

func unmapped(ip func(*Flow) (netip.Addr, bool)) func(*Flow) (netip.Addr, bool) {
	return func(f *Flow) (netip.Addr, bool) {
		addr, ok := ip(f)
		return addr.Unmap(), ok
	}
}

// member returns whether x is among fixed elements.
func member[T comparable](x func(*Flow) (T, bool), list []T) func(*Flow) Tri {
	if len(list) < many {
		return func(f *Flow) Tri {
			element, ok := x(f)
			if !ok {
				return Unknown
			}
			return tri(slices.Contains(list, element))
		}
	}
	index := make(map[T]struct{}, len(list))
	for _, element := range list {
		index[element] = struct{}{}
	}
	return func(f *Flow) Tri {
		element, ok := x(f)
		if !ok {
			return Unknown
		}
		_, found := index[element]
		return tri(found)
	}
}

// inComputed returns whether x is one of several values. All must be known, as for a
// list that is made first.
func inComputed(x, list value) (value, bool) {
	var parts []value
	for _, item := range list.items {
		if item.kind != x.kind {
			return value{}, false
		}
		part, ok := equal(x, item)
		if !ok {
			return value{}, false
		}
		parts = append(parts, part)
	}
	asks := answers(parts)
	return boolean(func(f *Flow) Tri {
		answer := False
		for _, ask := range asks {
			switch ask(f) {
			case Unknown:
				return Unknown
			case True:
				answer = True
			}
		}
		return answer
	}, x, list), true
}

// quantify returns the answer of exists (until is True) or all (until is False) over a
// list, whose elements the condition finds in a slot.
func quantify(list, condition value, slot int, until Tri) (value, bool) {
	ask := condition.tri
	switch {
	case list.list != nil:
		get := list.list
		return boolean(func(f *Flow) Tri {
			elements, ok := get(f)
			if !ok {
				return Unknown
			}
			return over(f, elements, &f.stringSlots[slot], ask, until)
		}, list, condition), true
	case list.constants() && list.items[0].kind == kindInt:
		numbers := list.numbers()
		return boolean(func(f *Flow) Tri {
			return over(f, numbers, &f.intSlots[slot], ask, until)
		}, list, condition), true
	}
	return value{}, false
}

// over asks for each element, which it puts into the slot. A variable that is used within
// the question may use the same slot, so it leaves the slot as it was.
func over[T any](f *Flow, elements []T, slot *T, ask func(*Flow) Tri, until Tri) Tri {
	before, answer := *slot, opposite(until)
	for _, element := range elements {
		*slot = element
		if got := ask(f); got == until {
			answer = until
			break
		} else if got == Unknown {
			answer = Unknown
		}
	}
	*slot = before
	return answer
}
