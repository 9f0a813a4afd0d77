// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"regexp"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

// call compiles an operator or a function. The receiver of a function is its first
// argument.
func (e *expression) call(x ast.Expr) value {
	call := x.AsCall()
	if call.FunctionName() == operators.Index {
		return e.lookup(x)
	}
	parts := call.Args()
	if call.IsMemberFunction() {
		parts = append([]ast.Expr{call.Target()}, parts...)
	}
	args := make([]value, len(parts))
	sound := true
	for i, part := range parts {
		args[i] = e.compile(part)
		sound = sound && args[i].kind != invalid
	}
	if !sound {
		return value{}
	}
	for _, try := range []func(ast.Expr, string, []value) (value, bool){
		e.logic, e.comparison, e.text, e.network,
	} {
		if result, ok := try(x, call.FunctionName(), args); ok {
			return result
		}
	}
	return e.fail(x, "%s", notAdmitted(call.FunctionName()))
}

func (e *expression) logic(x ast.Expr, function string, args []value) (value, bool) {
	for i, arg := range args {
		if arg.kind != kindBool && (function != operators.Conditional || i == 0) {
			return value{}, false
		}
	}
	switch function {
	case operators.LogicalAnd:
		return and(args[0], args[1]), true
	case operators.LogicalOr:
		return or(args[0], args[1]), true
	case operators.LogicalNot:
		return not(args[0]), true
	case operators.Conditional:
		return e.conditional(x, args), true
	}
	return value{}, false
}

func (e *expression) conditional(x ast.Expr, args []value) value {
	a, b := args[1], args[2]
	usable := a.kind == b.kind && a.kind <= kindIP
	if a.kind == kindList && b.kind == kindList {
		usable = a.list != nil && b.list != nil
	}
	if !usable {
		return e.fail(x, "both sides of ?: are conditions, texts, numbers, addresses, "+
			"or lists of texts")
	}
	return choose(args[0], a, b)
}

func (e *expression) comparison(x ast.Expr, function string, args []value) (value, bool) {
	if len(args) != 2 {
		return value{}, false
	}
	a, b := args[0], args[1]
	switch function {
	case operators.In:
		if b.kind == kindMap {
			return e.hasWord(x, a, b), true
		}
		result, ok := in(a, b)
		return e.orFail(result, ok, x, "this list cannot be searched for this value"), true
	case operators.Equals, operators.NotEquals:
		result, ok := equal(a, b)
		if ok = ok && a.kind == b.kind; ok && function == operators.NotEquals {
			result = not(result)
		}
		return e.orFail(result, ok, x, "these values cannot be compared"), true
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if a.kind != b.kind {
			return value{}, false
		}
		result, ok := less(function, a, b)
		return e.orFail(result, ok, x, "these values have no order"), true
	}
	return value{}, false
}

func (e *expression) orFail(result value, ok bool, x ast.Expr, text string) value {
	if !ok {
		return e.fail(x, "%s", text)
	}
	return result
}

func (e *expression) text(x ast.Expr, function string, args []value) (value, bool) {
	if len(args) == 1 && function == "size" {
		return size(args[0])
	}
	if len(args) != 2 || args[1].kind != kindString {
		return value{}, false
	}
	switch args[0].kind {
	case kindDomains:
		result := askText(args[1], args[0].domains.Contains)
		result.member = memberOf(args[0].domains, args[1])
		return result, function == "contains"
	case kindDomain:
		return e.domain(x, args), function == "matches"
	case kindString:
		return e.twoTexts(x, function, args[0], args[1])
	}
	return value{}, false
}

func (e *expression) twoTexts(x ast.Expr, function string, a, b value) (value, bool) {
	if ask := textQuestion(function); ask != nil {
		return boolean(both(a.str, b.str, ask), a, b), true
	}
	switch function {
	case "matches":
		if !b.constant {
			return e.fail(x, "the pattern of matches is a literal text"), true
		}
		re, err := regexp.Compile(b.text)
		if err != nil {
			return e.fail(x, "the pattern of matches: %v", err), true
		}
		return matchesRegexp(a, re), true
	case operators.Add:
		if e.message {
			return join(a, b), true
		}
	}
	return value{}, false
}

// domain compiles domain(name).matches(pattern).
func (e *expression) domain(x ast.Expr, args []value) value {
	set := sets.NewDomains(1)
	if !args[1].constant {
		return e.fail(x, "the pattern of a domain is a literal, as in \"*.example.org\"")
	}
	if err := set.Add(args[1].text); err != nil {
		return e.fail(x, "%v", err)
	}
	return askText(args[0], set.Contains)
}

func (e *expression) network(x ast.Expr, function string, args []value) (value, bool) {
	switch {
	case function == domainFunction:
		result := of(kindDomain, args...)
		result.str = args[0].str
		return result, true
	case len(args) == 1 && args[0].kind == kindString && function == "ip":
		return e.address(x, args[0]), true
	case len(args) == 1 && args[0].kind == kindString && function == "cidr":
		return e.prefix(x, args[0]), true
	case len(args) == 2 && args[0].kind == kindAddresses && function == "contains" &&
		args[1].kind == kindIP:
		result := askIP(args[1], args[0].prefixes.Contains)
		result.member = memberOf(args[0].prefixes, args[1])
		return result, true
	case len(args) == 2 && args[0].kind == kindPrefix && function == "containsIP":
		return e.containsIP(x, args[0].prefix, args[1]), true
	}
	return value{}, false
}

func (e *expression) containsIP(x ast.Expr, prefix netip.Prefix, addr value) value {
	if addr.kind != kindIP {
		addr = e.address(x, addr)
	}
	if addr.kind != kindIP {
		return value{}
	}
	return askIP(addr, prefix.Contains)
}

func (e *expression) address(x ast.Expr, text value) value {
	addr, err := netip.ParseAddr(text.text)
	if !text.constant || err != nil || addr.Zone() != "" || addr.Is4In6() {
		return e.fail(x, "%s", addressHint)
	}
	return constIP(addr)
}

func (e *expression) prefix(x ast.Expr, text value) value {
	if !text.constant {
		return e.fail(x, "%s", prefixHint)
	}
	prefix, err := sets.ParsePrefix(text.text)
	if err != nil {
		return e.fail(x, "%v", err)
	}
	return value{kind: kindPrefix, cost: 1, constant: true, prefix: prefix}
}

// lookup compiles what stands in brackets behind an annotation's or a label's map.
func (e *expression) lookup(x ast.Expr) value {
	args := x.AsCall().Args()
	key := e.compile(args[1])
	if key.kind == invalid {
		return key
	}
	return e.word(x, args[0], key)
}

// word compiles a look into a map of the pod.
func (e *expression) word(x, operand ast.Expr, key value) value {
	words := e.compile(operand)
	if words.kind == invalid {
		return words
	}
	if words.kind != kindMap || key.kind != kindString || !key.constant {
		return e.fail(x, "brackets are for pod.annotations and pod.labels, with a literal text: "+
			"lists have exists and all")
	}
	result, get, name := of(kindString, words), words.words, key.text
	result.str = func(f *Flow) (string, bool) { return get(f.Pod)[name], true }
	return result
}

// hasWord compiles key in pod.annotations.
func (e *expression) hasWord(x ast.Expr, key, words value) value {
	if key.kind != kindString || !key.constant {
		return e.fail(x, "the name of an annotation or a label is a literal text")
	}
	get, name := words.words, key.text
	return boolean(func(f *Flow) Tri {
		_, ok := get(f.Pod)[name]
		return tri(ok)
	}, words)
}
