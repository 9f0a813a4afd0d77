// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"text/template"

	"github.com/nsqueue/nsqueue/daemon/rules"
)

// rulesPage is the reference of the rules.
const rulesPage = "docs/rules.md"

const compileDir = "daemon/rules/internal/compile"

// rulesProse is the page without its tables.
//
//go:embed rules.md.tmpl
var rulesProse string

// renderRules returns the reference of the rules.
func renderRules() ([]byte, error) {
	tables := make(map[string]string)
	for name, make := range map[string]func() (string, error){
		"Fields": rulesFields, "Actions": rulesActions, "Functions": rulesFunctions,
		"Limits": rulesLimits, "Events": rulesEvents,
	} {
		text, err := make()
		if err != nil {
			return nil, err
		}
		tables[name] = text
	}
	tables["Variables"] = rulesVariables()
	t, err := template.New(rulesPage).Parse(rulesProse)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, tables)
	return b.Bytes(), err
}

func rulesVariables() string {
	rows := [][]string{{"variable", "type", "known from", "absent", "meaning"}}
	for _, v := range rules.Variables() {
		absent := "–"
		if v.Absent() != "" {
			absent = code(v.Absent())
		}
		rows = append(rows, []string{code(v.Name), v.Type(), v.KnownFrom(), absent, v.Text})
	}
	return table(rows)
}

func rulesActions() (string, error) {
	meanings := map[string]string{
		"accept": "the flow goes on. The kernel decides its later packets, unless a later " +
			"message may be decided otherwise, or `settle: false`",
		"inspect": "the flow's packets go to the [inspector outside nsqueued]" +
			"(inspectors.md#inspectors-in-other-languages) that the field `inspector` names",
		"drop":   "the flow's packets are dropped, and nobody is told",
		"reject": "the same, and the ends are told at once, by a reset or an ICMP error",
		"log":    "an event is written, and the search goes on",
		"mark":   "the flow's packets get the field `mark`, and the search goes on",
		"count":  "the rule's counter grows, and the search goes on",
		"next":   "the search leaves this set and goes on with the next one",
	}
	rows := [][]string{{"action", "what happens"}}
	for _, action := range rules.Actions() {
		meaning := meanings[action]
		if meaning == "" {
			return "", fmt.Errorf("nothing is said of the action %s", action)
		}
		rows = append(rows, []string{code(action), meaning})
	}
	if len(rows) != len(meanings)+1 {
		return "", fmt.Errorf("there are not %d actions", len(meanings))
	}
	return table(rows), nil
}

// function is what an expression may call. The example stands for a condition.
type function struct{ form, means, example string }

func functions() []function {
	return []function{
		{
			"`sets.X.contains(name)`", "the set of domains has the name, or a pattern above it",
			`sets.names.contains(tls.sni)`,
		},
		{
			"`sets.X.contains(address)`", "a network of the set covers the address",
			`sets.nets.contains(server.ip)`,
		},
		{
			"`domain(name).matches(pattern)`", "the same for one literal pattern",
			`domain(dns.name).matches("*.example.org")`,
		},
		{
			"`text.startsWith(part)`, `endsWith`, `contains`",
			"parts of a text, as they are written",
			`http.path.startsWith("/api/") && http.path.endsWith(".json") && tls.sni.contains("x")`,
		},
		{
			"`text.matches(pattern)`", "a regular expression of RE2, which is a literal",
			`http.path.matches("^/v[12]/")`,
		},
		{
			"`ip(literal)`, `cidr(literal).containsIP(address)`", "an address, and a network",
			`server.ip == ip("192.0.2.1") || cidr("10.0.0.0/8").containsIP(server.ip)`,
		},
		{
			"`size(text)`, `size(list)`", "how many characters or elements there are",
			`size(server.names) == 0 && size(tls.sni) > 0`,
		},
		{
			"`list.exists(x, condition)`, `list.all(x, condition)`",
			"the condition holds for one, or for all, elements of `server.names`, `tls.alpn` or " +
				"a list that is written out",
			`server.names.exists(n, sets.names.contains(n)) && tls.alpn.all(a, a != "h2")`,
		},
		{
			"`x in list`, `key in pod.annotations`", "the list, or the map, has it",
			`server.port in [80, 443] && flow.protocol in ["tcp", "udp"]`,
		},
		{"`== != < <= > >=`", "comparisons of one type with itself", `server.port >= 1024`},
		{
			"`&& || !`, `a ? b : c`", "logic; what is not known yet counts only where it matters",
			`flow.direction == "out" ? server.port == 443 : !flow.midstream`,
		},
	}
}

// refused are expressions of CEL that rules do not have.
func refused() []string {
	return []string{
		`server.port / 2 == 40`, `server.port + 1 == 444`, `int("1") == 1`, `tls.alpn[0] == "h2"`,
		`{"a": 1}.size() == 1`, `server.port == 1.5`, `tls.sni.matches(dns.name)`,
		`has(pod.annotations.x)`,
	}
}

func rulesFunctions() (string, error) {
	rows := [][]string{{"form", "meaning", "example"}}
	for _, f := range functions() {
		if err := tryCondition(f.example); err != nil {
			return "", fmt.Errorf("the example of %s: %w", f.form, err)
		}
		example := bytes.ReplaceAll([]byte(f.example), []byte("|"), []byte(`\|`))
		form := bytes.ReplaceAll([]byte(f.form), []byte("|"), []byte(`\|`))
		rows = append(rows, []string{string(form), f.means, code(string(example))})
	}
	for _, condition := range refused() {
		if tryCondition(condition) == nil {
			return "", fmt.Errorf("rules have %s now: say so", condition)
		}
	}
	return table(rows), nil
}

// tryCondition compiles a rule with the condition.
func tryCondition(condition string) error {
	_, err := rules.Compile(rules.File{Name: "example.yaml", Data: fmt.Appendf(nil, `
apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: example}
spec:
  trustAnnotations: true
  sets:
    names: {domains: [example.org]}
    nets: {cidrs: [10.0.0.0/8]}
  rules:
  - {name: example, action: accept, when: %q}
`, condition)})
	return err
}

// rulesFields returns the fields of files, which the code reads, with what is said of
// each.
func rulesFields() (string, error) {
	found, err := documentFields(compileDir)
	if err != nil {
		return "", err
	}
	texts := fieldTexts()
	rows := [][]string{{"field", "of", "needed", "meaning"}}
	for _, part := range documentParts() {
		for _, f := range found[part] {
			text := texts[part][f.name]
			if text == "" {
				return "", fmt.Errorf("nothing is said of the field %s of %s", f.name, part)
			}
			needed := "no"
			if f.needed {
				needed = "yes"
			}
			rows = append(rows, []string{code(f.name), part, needed, text})
		}
		if len(texts[part]) != len(found[part]) {
			return "", fmt.Errorf("%s has %d fields, but %d are described", part,
				len(found[part]), len(texts[part]))
		}
		delete(found, part)
	}
	for part := range found {
		return "", fmt.Errorf("nothing is said of %s", part)
	}
	return table(rows), nil
}

func documentParts() []string {
	return []string{
		"a set of rules", "metadata", "spec", "pods", "a set", "a variable", "a rule",
	}
}

func fieldTexts() map[string]map[string]string {
	return map[string]map[string]string{
		"a set of rules": {
			"apiVersion": "`nsqueue.io/v1alpha1`",
			"kind":       "`RuleSet`",
			"metadata":   "its name",
			"spec":       "all else",
		},
		"metadata": {"name": "no other set of the node has it"},
		"spec": {
			"priority": "sets with lower numbers are asked first, then by name. The default is 100",
			"mode":     "`Enforce` (the default), or [`Audit`](#audit-and-enforce)",
			"pods":     "which pods the set is for; all of them without it",
			"trustAnnotations": "`true`: rules that decide may read annotations, which are " +
				"[the pod author's own words](security.md#who-writes-rules)",
			"default": "what the set does where no rule of it decides: `accept`, `drop`, " +
				"`reject`, or `next` (the default)",
			"undecided": "`Pass` (the default) or `Hold`: what packets do " +
				"[until their flow is decided](#undecided-flows)",
			"midstream": "`accept` (the default) or `judge`: what becomes of " +
				"[flows that are older](#flows-that-are-older)",
			"sets":      "names of sets, each with its content",
			"variables": "expressions with a name, for rules and for variables further down",
			"rules":     "the rules, in the order in which they are asked",
		},
		"pods": {
			"namespaces":        "the pod is in one of them; `*` stands for any letters",
			"excludeNamespaces": "the pod is in none of them",
			"when":              "a condition that names `pod.*` only",
		},
		"a set": {
			"domains":     "names and [patterns](#domains)",
			"domainsFile": "the path of a file with one of these a line; `#` begins a comment",
			"cidrs":       "networks and addresses, instead of names",
		},
		"a variable": {
			"name":       "rules say `variables.NAME`",
			"expression": "of any type that rules have",
		},
		"a rule": {
			"name":     "no other rule of the set has it",
			"when":     "the condition",
			"action":   "[what happens](#actions) where the condition is true",
			"severity": "`critical`, `high`, `medium` or `low`, for events",
			"message":  "an expression of a text, for events; texts may be joined with `+` here",
			"settle": "`false`: the kernel does not decide the flow's later packets, which costs " +
				"processor time",
			"mark": "value and mask, as in `0x10/0xf0`, of a rule whose action is `mark`",
			"inspector": "the name of an inspector in nsqueued's configuration, of a rule whose " +
				"action is `inspect`",
		},
	}
}

// ordered returns the keys of a map in their order.
func ordered[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
