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
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

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
	// Labels tells that the labels of pods are known.
	Labels bool
}

// Compile compiles files of rules. It returns a program, or all that is wrong with any of
// the files as an Errors.
func Compile(files []File, options Options) (*Program, error) {
	var errs Errors
	documents := readFiles(files, &errs)
	base, err := environment(nil)
	if err != nil {
		return nil, fmt.Errorf("declare the names of rules: %w", err)
	}
	program := &Program{
		variables: Variables(), seed: maphash.MakeSeed(),
		indexFrom: indexFrom, groupFrom: groupFrom,
	}
	for _, d := range documents {
		program.files = append(program.files, d.files()...)
		if err := d.compile(base, options, program); err != nil {
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
func readFiles(files []File, errs *Errors) (list []*document) {
	seen := make(map[string]*document)
	for _, file := range files {
		r := &reader{source: newSource(file), errs: errs}
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

// compile compiles the expressions of a document. An error that it returns is none of the
// document's.
func (d *document) compile(base *cel.Env, options Options, p *Program) error {
	s := &scope{
		doc: d, labels: options.Labels, variables: d.values(p.variables),
		digests: make(map[string]digest), used: make(map[string]bool),
	}
	for i := range d.sets {
		more := d.sets[i].addFile(d, options.ReadFile)
		s.digests["sets."+d.sets[i].name] = digestNode(d.sets[i].node, more)
	}
	var err error
	if s.env, err = base.Extend(d.setVariables()...); err != nil {
		return fmt.Errorf("declare the sets of %s: %w", d.set.Name, err)
	}
	if err := s.own(); err != nil {
		return err
	}
	s.pods()
	for i := range d.rules {
		s.rule(&d.rules[i], p.seed)
		d.set.Rules = append(d.set.Rules, d.rules[i].rule)
	}
	return nil
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
func (s *scope) own() error {
	for _, v := range s.doc.variables {
		if v.name == "" || v.text == nil {
			continue
		}
		clear(s.used)
		result, t, ok := s.compile(v.text, false)
		if !ok {
			// What uses it is not told another error.
			t, result = cel.DynType, value{}
		}
		name := "variables." + v.name
		s.variables[name], s.digests[name] = result, s.digestOf(v.text, s.used)
		env, err := s.env.Extend(cel.Variable(name, t))
		if err != nil {
			return fmt.Errorf("declare %s: %w", name, err)
		}
		s.env = env
	}
	return nil
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

// rule compiles the expressions of a rule.
func (s *scope) rule(r *ruleDocument, seed maphash.Seed) {
	clear(s.used)
	s.message(r)
	if r.when == nil {
		return
	}
	when, ok := s.condition(r.when)
	if !ok {
		return
	}
	rule := r.rule
	rule.digest = s.digestOf(r.node, s.used)
	decides := rule.Action != Log && rule.Action != Count && rule.Action != Mark
	if decides && when.reads&OfAuthor != 0 && !s.doc.trust {
		s.doc.errorf(r.when, "the author of a pod writes its annotations and labels, and could "+
			"loosen this rule: say trustAnnotations: true in spec, or use them in pods.when")
	}
	rule.When, rule.Reads = r.when.Value, when.reads
	rule.split(when, seed)
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
