// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

// kind is the type of a value; invalid stands for one whose error is told already.
type kind uint8

const (
	invalid kind = iota
	kindBool
	kindString
	kindInt
	kindIP
	kindPrefix
	kindList
	kindMap
	kindDomain
	kindDomains
	kindAddresses
)

// value is an expression that was compiled. Its functions return false, or Unknown, while
// what they read is not known. They allocate nothing, but for what joins texts.
type value struct {
	kind  kind
	reads Stage
	cost  int // how many expressions it takes
	names nameSet
	// constant tells that the value is a literal: text, number, addr or prefix.
	constant bool
	text     string
	number   int64
	addr     netip.Addr
	prefix   netip.Prefix

	tri   func(*Flow) Tri
	str   func(*Flow) (string, bool)
	num   func(*Flow) (int64, bool)
	ip    func(*Flow) (netip.Addr, bool)
	list  func(*Flow) ([]string, bool) // nil for lists of numbers, or with parts to compute
	words func(*Pod) map[string]string

	// variable is set where the value is a variable and nothing else.
	variable *Variable
	items    []value // of a literal list
	literal  bool    // items is what the list has
	all      []value // what a conjunction is of
	some     []value // what a disjunction is of
	// equals and member are set where the value is such a question.
	equals *equality
	member membership

	domains  *sets.Domains
	prefixes *sets.Prefixes
}

func constString(text string) value {
	return value{
		kind: kindString, cost: 1, constant: true, text: text,
		str: func(*Flow) (string, bool) { return text, true },
	}
}

func constInt(number int64) value {
	return value{
		kind: kindInt, cost: 1, constant: true, number: number,
		num: func(*Flow) (int64, bool) { return number, true },
	}
}

func constIP(addr netip.Addr) value {
	return value{
		kind: kindIP, cost: 1, constant: true, addr: addr,
		ip: func(*Flow) (netip.Addr, bool) { return addr, true },
	}
}

func constBool(b bool) value {
	answer := tri(b)
	return value{kind: kindBool, cost: 1, tri: func(*Flow) Tri { return answer }}
}

// known makes a function that says whether its result is known.
func known[T any](need Stage, get func(*Flow) T) func(*Flow) (T, bool) {
	need &= Everything
	return func(f *Flow) (T, bool) {
		if f.Known&need != need {
			var none T
			return none, false
		}
		return get(f), true
	}
}

// value returns what the back end has for a variable.
func (v *Variable) value() value {
	result := value{reads: v.Reads, cost: 1, variable: v, names: 1 << v.number}
	switch {
	case v.str != nil:
		result.kind, result.str = kindString, known(v.Reads, v.str)
	case v.num != nil:
		result.kind, result.num = kindInt, known(v.Reads, v.num)
	case v.ip != nil:
		result.kind, result.ip = kindIP, known(v.Reads, v.ip)
	case v.list != nil:
		result.kind, result.list = kindList, known(v.Reads, v.list)
	case v.words != nil:
		result.kind, result.words = kindMap, v.words
	default:
		result.kind, result.tri = kindBool, knownFlag(v.Reads, v.flag)
	}
	return result
}

func knownFlag(need Stage, get func(*Flow) bool) func(*Flow) Tri {
	return func(f *Flow) Tri {
		if f.Known&need != need {
			return Unknown
		}
		return tri(get(f))
	}
}

// of returns a value that is made of others, with what they read and cost.
func of(k kind, parts ...value) value {
	result := value{kind: k, cost: 1}
	for _, part := range parts {
		result.reads |= part.reads
		result.names |= part.names
		result.cost = min(result.cost+part.cost, maxCost+1)
	}
	return result
}

// boolean returns a bool that is made of others.
func boolean(answer func(*Flow) Tri, parts ...value) value {
	result := of(kindBool, parts...)
	result.tri = answer
	return result
}
