// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/operators"
)

// notAdmitted says that rules do not have a function of CEL, and what there is instead.
func notAdmitted(function string) string {
	switch function {
	case operators.Add:
		return "+ joins the texts of a message, and is nothing else"
	case operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo,
		operators.Negate:
		sign, _ := operators.FindReverse(function)
		return sign + " is not admitted: rules compare values and compute none"
	case "string", "int", "uint", "double", "bool", "bytes", "dyn", "type", "timestamp", "duration":
		return function + "() is not admitted: compare a value with one of its own type"
	}
	if sign, ok := operators.FindReverse(function); ok && sign != "" {
		function = sign
	}
	return function + " is not admitted here: there are == != < <= > >= && || ! ?: in, size, " +
		"exists, all, startsWith, endsWith, contains, matches, domain, ip, cidr and containsIP"
}

const (
	addressHint = `ip() takes a literal address, as in ip("192.0.2.1")`
	prefixHint  = `cidr() takes a literal network, as in cidr("10.0.0.0/8")`
)

// issue notes what the checker says about a place of the expression, and what would be
// right.
func (e *expression) issue(at common.Location, text string) {
	index := e.index(at)
	text = strings.ReplaceAll(text, " (in container '')", "")
	unknown := regexp.MustCompile(`^undeclared reference to '([^']*)'`).FindStringSubmatch(text)
	switch {
	case unknown != nil:
		text, index = e.explainName(unknown[1], index)
	case strings.HasPrefix(text, "invalid ip argument"):
		text = addressHint
	case strings.HasPrefix(text, "invalid cidr argument"):
		text = prefixHint
	case strings.HasPrefix(text, "Syntax error") && e.message:
		text += ": a message is an expression, so its words stand between quotes"
	}
	e.failIndex(index, text)
}

// explainName says what there is instead of a name that is not known. The checker has the
// place of a name's last dot or of the parenthesis after it: it returns where it starts.
func (e *expression) explainName(name string, index int) (text string, start int) {
	value := []rune(e.node.Value)
	index = min(index, len(value))
	before, called := string(value[:index]), index < len(value) && value[index] == '('
	root, field, _ := strings.Cut(name, ".")
	start = index
	if dot := strings.LastIndex(name, "."); strings.HasSuffix(before, name) {
		start -= len(name)
	} else if dot > 0 && strings.HasSuffix(before, name[:dot]) {
		start -= dot
	}
	switch root {
	case "has":
		return `has is not needed: what is absent is "", 0, false or []`, start
	case "map", "filter", "exists_one", "existsOne":
		e.macro = true
		return root + " is not admitted: there are exists and all", start
	}
	if called && field == "" {
		return notAdmitted(name), start
	}
	return e.namesInstead(root, field), start
}

// namesInstead says which fields root has, or which names there are.
func (e *expression) namesInstead(root, field string) string {
	var below, roots []string
	for _, full := range slices.Sorted(maps.Keys(e.variables)) {
		first, rest, _ := strings.Cut(full, ".")
		roots = append(roots, first)
		if first == root {
			below = append(below, rest)
		}
	}
	switch {
	case below == nil:
		return fmt.Sprintf("%q is not known here: there are %s",
			root, strings.Join(slices.Compact(roots), ", "))
	case field == "":
		return fmt.Sprintf("%s is no value itself: it has %s", root, strings.Join(below, ", "))
	}
	field, _, _ = strings.Cut(field, ".")
	return fmt.Sprintf("%s has no field %s: it has %s", root, field, strings.Join(below, ", "))
}
