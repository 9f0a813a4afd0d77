// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode/utf8"
)

// textQuestion returns the question that startsWith, endsWith or contains asks.
func textQuestion(function string) func(text, part string) bool {
	switch function {
	case "startsWith":
		return strings.HasPrefix
	case "endsWith":
		return strings.HasSuffix
	case "contains":
		return strings.Contains
	}
	return nil
}

// askText returns the answer of a question about a text. It is False or True as soon
// as the text is known.
func askText(text value, ask func(string) bool) value {
	get := text.str
	return boolean(func(f *Flow) Tri {
		known, ok := get(f)
		if !ok {
			return Unknown
		}
		return tri(ask(known))
	}, text)
}

func askIP(addr value, ask func(netip.Addr) bool) value {
	get := addr.ip
	return boolean(func(f *Flow) Tri {
		known, ok := get(f)
		if !ok {
			return Unknown
		}
		return tri(ask(known.Unmap()))
	}, addr)
}

func matchesRegexp(text value, re *regexp.Regexp) value {
	return askText(text, re.MatchString)
}

// size returns how many characters a text has, or elements a list.
func size(v value) (value, bool) {
	result := of(kindInt, v)
	switch {
	case v.kind == kindString:
		result.num = func(f *Flow) (int64, bool) {
			text, ok := v.str(f)
			return int64(utf8.RuneCountInString(text)), ok
		}
	case v.list != nil:
		result.num = func(f *Flow) (int64, bool) {
			list, ok := v.list(f)
			return int64(len(list)), ok
		}
	default:
		return value{}, false
	}
	return result, true
}

// join returns the text a + b, which is for messages: it makes a new text.
func join(a, b value) value {
	result := of(kindString, a, b)
	result.str = func(f *Flow) (string, bool) {
		x, ok1 := a.str(f)
		y, ok2 := b.str(f)
		return x + y, ok1 && ok2
	}
	return result
}
