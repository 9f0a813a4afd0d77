// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/sets"
)

// APIVersion and Kind are what a document of rules starts with.
const (
	APIVersion = "nsqueue.io/v1alpha1"
	Kind       = "RuleSet"
)

const (
	defaultPriority = 100
	maxPriority     = 65535
)

// document is a set of rules as it was read, before its expressions are.
type document struct {
	*reader
	node      *yaml.Node
	set       *Set
	named     *yaml.Node // where the set has its name
	podsWhen  *yaml.Node
	trust     bool
	sets      []setDocument
	variables []variableDocument
	rules     []ruleDocument
}

type setDocument struct {
	name     string
	node     *yaml.Node
	domains  *sets.Domains
	prefixes *sets.Prefixes
	file     *yaml.Node // names a file with domains
}

type variableDocument struct {
	name       string
	node, text *yaml.Node
}

type ruleDocument struct {
	rule                *Rule
	node, when, message *yaml.Node
}

// readDocument reads a document of a file.
func readDocument(r *reader, n *yaml.Node) *document {
	d := &document{reader: r, node: n, set: &Set{
		Source: r.source.name, Line: n.Line, Priority: defaultPriority, Default: Next,
		AcceptMidstream: true,
	}}
	d.mapping(n, "a set of rules",
		field{"apiVersion", true, func(n *yaml.Node) { d.word(n, "apiVersion", APIVersion) }},
		field{"kind", true, func(n *yaml.Node) { d.word(n, "kind", Kind) }},
		field{"metadata", true, d.metadata},
		field{"spec", true, d.spec})
	return d
}

func (d *document) metadata(n *yaml.Node) {
	d.mapping(n, "metadata", field{"name", true, func(n *yaml.Node) {
		d.named, d.set.Name = n, d.name(n, "the name of a set of rules")
		if d.set.Name == Nobody {
			d.errorf(n, "%s stands for what is refused without a rule: name the set otherwise",
				Nobody)
		}
	}})
}

func (d *document) spec(n *yaml.Node) {
	set := d.set
	d.mapping(n, "spec",
		field{"priority", false, func(n *yaml.Node) {
			set.Priority = d.number(n, "priority", 0, maxPriority)
		}},
		field{"mode", false, func(n *yaml.Node) {
			set.Audit = d.word(n, "mode", "Enforce", "Audit") == 1
		}},
		field{"pods", false, d.pods},
		field{"trustAnnotations", false, func(n *yaml.Node) {
			d.trust = d.flag(n, "trustAnnotations")
		}},
		field{"default", false, func(n *yaml.Node) {
			set.Default = [...]Action{Accept, Drop, Reject, Next}[d.word(
				n, "default", "accept", "drop", "reject", "next")]
		}},
		field{"undecided", false, func(n *yaml.Node) {
			set.Hold = d.word(n, "undecided", "Pass", "Hold") == 1
		}},
		field{"midstream", false, func(n *yaml.Node) {
			set.AcceptMidstream = d.word(n, "midstream", "accept", "judge") == 0
		}},
		field{"sets", false, unlessEmpty(d.readSets)},
		field{"variables", false, unlessEmpty(d.readVariables)},
		field{"rules", false, unlessEmpty(d.readRules)})
}

// unlessEmpty reads a field that may be there without anything in it.
func unlessEmpty(read func(*yaml.Node)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Tag != "!!null" {
			read(n)
		}
	}
}

func (d *document) pods(n *yaml.Node) {
	d.mapping(n, "pods",
		field{"namespaces", false, func(n *yaml.Node) { d.set.namespaces = d.patterns(n) }},
		field{"excludeNamespaces", false, func(n *yaml.Node) { d.set.excluded = d.patterns(n) }},
		field{"when", false, func(n *yaml.Node) { d.podsWhen = n }})
}

// patterns reads names of namespaces, in which a star stands for any letters.
func (d *document) patterns(n *yaml.Node) (list []string) {
	d.list(n, "the list of namespaces", func(one *yaml.Node) {
		text := d.text(one, "a namespace")
		if text != "" && !isMadeOf(text, lower+digits+"*-") {
			d.errorf(one, "%q is no namespace: write it as in agents or team-*", text)
		}
		list = append(list, text)
	})
	if n.Kind == yaml.SequenceNode && len(list) == 0 {
		d.errorf(n, "the list of namespaces is empty: name one, or leave the field out")
	}
	return list
}

// The characters of names, and how many a name has at most.
const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	maxName = 63
)

// isMadeOf reports whether a text is short enough for a name, and has these characters
// alone.
func isMadeOf(text, characters string) bool {
	return len(text) <= maxName && strings.Trim(text, characters) == ""
}

// name reads a name that ends in logs, metrics and the words of operators.
func (d *document) name(n *yaml.Node, what string) string {
	text := d.text(n, what)
	if text != "" && (!isMadeOf(text, lower+upper+digits+"_.-") ||
		strings.Contains("_.-", text[:1])) {
		d.errorf(n, "%s has letters, digits, -, _ and ., 63 at most, not %q", what, text)
	}
	return text
}

// identifier reads a name that stands in expressions.
func (d *document) identifier(n *yaml.Node, what string) string {
	text := d.text(n, what)
	if text != "" && (!isMadeOf(text, lower+upper+digits+"_") ||
		strings.Contains(digits, text[:1])) {
		d.errorf(n, "%s has letters, digits and _, 63 at most, and starts with no digit, not %q",
			what, text)
		return ""
	}
	return text
}

func (d *document) readVariables(n *yaml.Node) {
	seen := make(map[string]bool)
	d.list(n, "variables", func(one *yaml.Node) {
		v := variableDocument{node: one}
		d.mapping(one, "a variable",
			field{"name", true, func(n *yaml.Node) {
				v.name = d.identifier(n, "the name of a variable")
				if seen[v.name] && v.name != "" {
					d.errorf(n, "a variable before has the name %q already", v.name)
				}
				seen[v.name] = true
			}},
			field{"expression", true, func(n *yaml.Node) { v.text = n }})
		d.variables = append(d.variables, v)
	})
}

func (d *document) readRules(n *yaml.Node) {
	seen := make(map[string]bool)
	d.list(n, "rules", func(one *yaml.Node) {
		rule := d.readRule(one)
		if name := rule.rule.Name; name != "" && seen[name] {
			d.errorf(one, "a rule of the set before has the name %q already", name)
		}
		seen[rule.rule.Name] = true
		d.rules = append(d.rules, rule)
	})
}

func (d *document) readRule(n *yaml.Node) ruleDocument {
	rule := &Rule{Set: d.set, Line: n.Line, Settle: true}
	r := ruleDocument{rule: rule, node: n}
	var mark, inspector *yaml.Node
	d.mapping(n, "a rule",
		field{"name", true, func(n *yaml.Node) { rule.Name = d.name(n, "the name of a rule") }},
		field{"when", true, func(n *yaml.Node) { r.when = n }},
		field{"action", true, func(n *yaml.Node) {
			rule.Action = Action(d.word(n, "action", actionNames()...))
		}},
		field{"severity", false, func(n *yaml.Node) {
			severities := []string{"critical", "high", "medium", "low"}
			rule.Severity = severities[d.word(n, "severity", severities...)]
		}},
		field{"message", false, func(n *yaml.Node) { r.message = n }},
		field{"settle", false, func(n *yaml.Node) { rule.Settle = d.flag(n, "settle") }},
		field{"mark", false, func(n *yaml.Node) { mark = n }},
		field{"inspector", false, func(n *yaml.Node) { inspector = n }})
	if rule.Name == byDefault || rule.Name == byMidstream {
		d.errorf(n, "%s is what a set decides without a rule: name the rule otherwise", rule.Name)
	}
	d.readMark(n, rule, mark)
	d.readInspector(n, rule, inspector)
	return r
}

// readInspector reads which inspector a rule leaves its flows to.
func (d *document) readInspector(n *yaml.Node, rule *Rule, inspector *yaml.Node) {
	switch {
	case (inspector != nil) != (rule.Action == Inspect):
		d.errorf(n, "a rule has the field inspector if its action is inspect, and only then")
	case inspector != nil:
		rule.Inspector = d.name(inspector, "the name of an inspector")
		if rule.Inspector == "" || d.inspector == nil {
			return
		}
		if err := d.inspector(rule.Inspector); err != nil {
			d.errorf(inspector, "%v", err)
		}
	}
}

// readMark reads the mark that a rule sets, written as value or value/mask.
func (d *document) readMark(n *yaml.Node, rule *Rule, mark *yaml.Node) {
	if (mark != nil) != (rule.Action == Mark) {
		d.errorf(n, "a rule has the field mark, as in 0x10/0xf0, if its action is mark, "+
			"and only then")
		return
	}
	if mark == nil {
		return
	}
	value, mask, both := strings.Cut(d.text(mark, "mark"), "/")
	if !both {
		mask = "0xffffffff"
	}
	var ok1, ok2 bool
	rule.Mark, ok1 = bits(value)
	rule.MarkMask, ok2 = bits(mask)
	if !ok1 || !ok2 || rule.Mark&^rule.MarkMask != 0 {
		d.errorf(mark, "mark is a value of 32 bits and a mask that covers it, as in 0x10/0xf0")
	}
}
