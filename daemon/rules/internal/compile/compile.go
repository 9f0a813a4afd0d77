// SPDX-License-Identifier: Apache-2.0

// Package compile turns files of rules into what decides flows.
//
// CEL's parser and checker read the expressions of rules; this package compiles what they
// have checked to functions over a Flow. All that rules admit compiles, and an expression
// has no error when it runs: there is no division, no conversion, and what is absent is a
// zero value. An answer is true, false, or not known yet. A decision allocates nothing.
//
// A Program never changes. Any number of goroutines may use it, each with a Flow and a
// Progress of its own.
package compile

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
)

// File is a file of rules, with one or several documents.
type File struct {
	Name string
	Data []byte
}

// Options are what Compile needs beside the files.
type Options struct {
	// ReadFile reads a file with the names of a set. Nil: there are none.
	ReadFile func(name string) ([]byte, error)
	// Inspector says why rules cannot use an inspector of this name. Nil: they can use
	// any.
	Inspector func(name string) error
	// Labels tells that the labels of pods are known.
	Labels bool
	// Before is a program whose rules and sets are taken over where the files still have
	// the same. Nil: all is compiled.
	Before *Program
}

// Compile compiles files of rules. It returns a program, or all that is wrong with any of
// the files as an Errors.
func Compile(files []File, options Options) (*Program, error) {
	var errs Errors
	documents := readFiles(files, options.Inspector, &errs)
	program := newProgram(&options)
	before := setsOf(options.Before)
	base := sync.OnceValues(func() (*cel.Env, error) { return environment(nil) })
	for _, d := range documents {
		program.files = append(program.files, d.files()...)
		s := &scope{
			doc: d, labels: options.Labels, base: base, digests: make(map[string]digest),
			used: make(map[string]bool), before: before[d.set.Name],
		}
		if err := s.document(options.ReadFile, program); err != nil {
			return nil, err
		}
		program.Sets = append(program.Sets, d.set)
	}
	if len(errs) == 0 {
		slices.SortFunc(program.Sets, func(a, b *Set) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
		})
		program.link(&errs)
	}
	if len(errs) > 0 {
		return nil, errs.sorted(files)
	}
	return program, nil
}

// readFiles reads the documents of all files. No two sets have one name.
func readFiles(
	files []File, inspector func(string) error, errs *Errors,
) (list []*document) {
	seen := make(map[string]*document)
	for _, file := range files {
		r := &reader{source: newSource(file), errs: errs, inspector: inspector}
		for _, node := range r.documents(file.Data) {
			d := readDocument(r, node)
			if other := seen[d.set.Name]; other != nil && d.set.Name != "" {
				d.errorf(d.named, "%s has a set %q already, in line %d",
					other.source.name, d.set.Name, other.named.Line)
			}
			seen[d.set.Name] = d
			list = append(list, d)
		}
	}
	return list
}

// files returns the names of the files that the document's sets are taken from.
func (d *document) files() (list []string) {
	for _, set := range d.sets {
		if set.file != nil {
			list = append(list, set.file.Value)
		}
	}
	return list
}

// newProgram returns an empty program. What it shares with the one before lets rules of
// that one be rules of this one, too.
func newProgram(o *Options) *Program {
	p := &Program{labels: o.Labels, indexFrom: indexFrom, groupFrom: groupFrom}
	if o.Before != nil && o.Before.labels != o.Labels {
		o.Before = nil
	}
	if o.Before == nil {
		p.variables, p.seed = Variables(), maphash.MakeSeed()
	} else {
		p.variables, p.seed = o.Before.variables, o.Before.seed
	}
	return p
}

// document compiles the expressions of a document. An error that it returns is none of the
// document's.
func (s *scope) document(read func(string) ([]byte, error), p *Program) error {
	d := s.doc
	s.sets(read)
	s.variables = d.values(p.variables)
	s.declared = d.setVariables()
	s.own()
	s.pods()
	for i := range d.rules {
		s.rule(&d.rules[i], p.seed)
		d.set.Rules = append(d.set.Rules, d.rules[i].rule)
	}
	return s.err
}

// values returns what expressions of the document may name, but for its own variables.
func (d *document) values(variables []Variable) map[string]value {
	all := make(map[string]value)
	for i := range variables {
		all[variables[i].Name] = variables[i].value()
	}
	for _, set := range d.sets {
		kind := kindDomains
		if set.prefixes != nil {
			kind = kindAddresses
		}
		all["sets."+set.name] = value{
			kind: kind, cost: 1, domains: set.domains, prefixes: set.prefixes,
		}
	}
	return all
}

// own compiles the document's variables. Each may use those before it.
func (s *scope) own() {
	for i := range s.doc.variables {
		v := &s.doc.variables[i]
		if v.name == "" || v.text == nil {
			continue
		}
		name := "variables." + v.name
		own, ok := s.sameVariable(v)
		if !ok {
			own = s.variable(v)
		}
		s.variables[name], s.digests[name] = own.value, own.digest
		s.declare(cel.Variable(name, own.celType))
		s.doc.set.variables = append(s.doc.set.variables, own)
	}
}

func (s *scope) variable(v *variableDocument) variable {
	clear(s.used)
	result, t, ok := s.compile(v.text, false)
	if !ok {
		// What uses it is not told another error.
		t, result = cel.DynType, value{}
	}
	used := s.usedNames()
	return variable{v.name, result, t, used, s.digestOf(v.text, used)}
}

func (s *scope) pods() {
	n := s.doc.podsWhen
	if n == nil {
		return
	}
	when, ok := s.condition(n)
	if ok && when.reads&Everything != 0 {
		s.doc.errorf(n, "pods are chosen when they are attached, so this may name pod.* only")
		return
	}
	s.doc.set.when = when.tri
}

// rule compiles the expressions of a rule, unless they are those of a rule before.
func (s *scope) rule(r *ruleDocument, seed maphash.Seed) {
	rule := r.rule
	if !s.sameRule(r) && !s.conditions(r, seed) {
		return
	}
	decides := rule.Action != Log && rule.Action != Count && rule.Action != Mark
	if decides && rule.Reads&OfAuthor != 0 && !s.doc.trust {
		s.doc.errorf(r.when, "the author of a pod writes its annotations and labels, and could "+
			"loosen this rule: say trustAnnotations: true in spec, or use them in pods.when")
	}
}

// conditions compiles the expressions of a rule. It returns false if the rule has no
// condition.
func (s *scope) conditions(r *ruleDocument, seed maphash.Seed) bool {
	clear(s.used)
	s.message(r)
	if r.when == nil {
		return false
	}
	when, ok := s.condition(r.when)
	if !ok {
		return false
	}
	rule := r.rule
	rule.used = s.usedNames()
	rule.digest = s.digestOf(r.node, rule.used)
	rule.When, rule.Reads = r.when.Value, when.reads
	rule.split(when, seed)
	return true
}

func (s *scope) message(r *ruleDocument) {
	if r.message == nil {
		return
	}
	text, _, ok := s.compile(r.message, true)
	if ok && text.kind != kindString {
		s.doc.errorf(r.message, "a message is a text, as in \"'pod ' + pod.name\"")
	} else if ok {
		r.rule.message, r.rule.says = text.str, text.names
	}
}

// split parts a condition into what is known of a pod when it is attached, and the rest.
func (r *Rule) split(when value, seed maphash.Seed) {
	var ofPod, ofFlow []value
	for _, part := range when.conjuncts() {
		if part.reads&Everything == 0 {
			ofPod = append(ofPod, part)
		} else {
			ofFlow = append(ofFlow, part)
		}
	}
	if ofPod != nil {
		r.pod = allOf(ofPod)
	}
	if ofFlow != nil {
		r.flow = allOf(ofFlow)
		r.clause = clauseOf(value{tri: r.flow, all: ofFlow})
		r.keys = keysOf(seed, ofFlow)
	}
}
