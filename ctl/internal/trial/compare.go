// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"fmt"
	"slices"
)

// field is one that is given.
type field struct{ name, value string }

type fields []field

func (f *fields) add(name string, value *string) {
	if value != nil {
		*f = append(*f, field{name, *value})
	}
}

func (f fields) get(name string) string {
	i := slices.IndexFunc(f, func(one field) bool { return one.name == name })
	if i < 0 {
		return ""
	}
	return f[i].value
}

// expected is an entry of an expectation: which flows it is about, and what they are to
// be.
type expected struct {
	where       string
	which, what fields
	messages    []expected
}

// actual is a flow or a message.
type actual struct {
	name     string
	fields   fields
	messages []actual
}

// matches reports whether an entry is about something.
func (e *expected) matches(a *actual) bool {
	for _, f := range e.which {
		if a.fields.get(f.name) != f.value {
			return false
		}
	}
	return true
}

// compare returns what is not as expected.
func compare(want []expected, got []actual) (unmet []string) {
	for i := range want {
		e := &want[i]
		var found []actual
		for j := range got {
			if e.matches(&got[j]) {
				found = append(found, got[j])
			}
		}
		if len(found) == 0 {
			unmet = append(unmet, e.where+": there is no such flow")
			continue
		}
		// Of entries that say the same, each is about one.
		before, all := e.place(want, i)
		switch {
		case all > 1 && all != len(found):
			unmet = append(unmet, fmt.Sprintf("%s: there are %d such flows, want %d", e.where,
				len(found), all))
			continue
		case all > 1:
			found = found[before : before+1]
		}
		for j := range found {
			unmet = append(unmet, e.differences(&found[j])...)
		}
	}
	return unmet
}

// place returns how many entries there are that say the same as one, and how many of them
// come before it.
func (e *expected) place(want []expected, index int) (before, all int) {
	for i := range want {
		if want[i].which.equal(e.which) {
			all++
			if i < index {
				before++
			}
		}
	}
	return before, all
}

// differences returns what is not as an entry says.
func (e *expected) differences(a *actual) (unmet []string) {
	for _, f := range e.what {
		if got := a.fields.get(f.name); got != f.value {
			unmet = append(unmet, fmt.Sprintf("%s: %s: %s is %s, want %s", e.where, a.name,
				f.name, quote(got), quote(f.value)))
		}
	}
	if e.messages != nil && len(e.messages) != len(a.messages) {
		return append(unmet, fmt.Sprintf("%s.messages: %s: there are %d, want %d", e.where, a.name,
			len(a.messages), len(e.messages)))
	}
	for i := range e.messages {
		unmet = append(unmet, e.messages[i].differences(&a.messages[i])...)
	}
	return unmet
}

// quote makes an empty text visible.
func quote(s string) string {
	if s == "" {
		return `""`
	}
	return s
}
