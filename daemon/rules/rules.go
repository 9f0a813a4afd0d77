// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// The words of rules, and what is told of flows.
type (
	// Pod is what rules can ask about a pod.
	Pod = compile.Pod
	// Flow is what is known of a flow.
	Flow = compile.Flow
	// Set is a set of rules, and Rule one of them.
	Set = compile.Set
	// Rule is a rule of a set.
	Rule = compile.Rule
	// List is the rules that concern a pod.
	List = compile.List
	// Note is something that happened to a flow.
	Note = judge.Note
	// Error is one thing that is wrong with a file, and Errors is all that is.
	Error = compile.Error
	// Errors is all that is wrong with files.
	Errors = compile.Errors
)

// The kinds of a [Note].
const (
	Decided  = judge.Decided
	Effect   = judge.Effect
	Conflict = judge.Conflict
	Subflow  = judge.Subflow
)

// What rules do, as the Action of a [Rule], a [Set] or a [Note].
const (
	AcceptIt  = compile.Accept
	InspectIt = compile.Inspect
	DropIt    = compile.Drop
	RejectIt  = compile.Reject
	LogIt     = compile.Log
)

// The verdicts of a [Note].
const (
	Undecided = compile.Undecided
	Accepted  = compile.Accepted
	Inspected = compile.Inspected
	Rejected  = compile.Rejected
	Dropped   = compile.Dropped
)

// NamesOf returns the names of the set and the rule that decided or had an effect, as those
// of a [Note]. The rule's is default or midstream where no rule is meant, and both are empty
// after the end of all sets.
func NamesOf(set *Set, rule *Rule, midstream bool) (ofSet, ofRule string) {
	return compile.NamesOf(set, rule, midstream)
}

// Rules are those of a number of files. They never change.
type Rules struct {
	program *compile.Program
	files   []string
}

// Load reads rules from files, and from those of directories that [FilesIn] returns. It
// returns all that is wrong with any of them as an [Errors].
func Load(paths ...string) (*Rules, error) {
	return (&Loader{Read: os.ReadFile}).Load(nil, paths...)
}

// Loader loads rules in the way of a daemon.
type Loader struct {
	// Read reads each file, those that sets name included.
	Read func(path string) ([]byte, error)
	// Labels says that the labels of pods come to be known. Without them, rules that ask
	// for pod.labels are wrong.
	Labels bool
	// Inspector says why rules cannot use an inspector of this name. Nil: they can use
	// any.
	Inspector func(name string) error
}

// Load loads rules as the function Load does. What is the same in the rules before, unless
// they are nil, is taken over from there, and not compiled again.
func (l *Loader) Load(before *Rules, paths ...string) (*Rules, error) {
	var files []compile.File
	var errs Errors
	for _, path := range paths {
		names, err := filesOf(path)
		if err != nil {
			errs = append(errs, Error{File: path, Line: 1, Column: 1, Text: err.Error()})
		}
		for _, name := range names {
			data, err := l.Read(name)
			if err != nil {
				errs = append(errs, Error{File: name, Line: 1, Column: 1, Text: err.Error()})
				continue
			}
			files = append(files, compile.File{Name: name, Data: data})
		}
	}
	next, err := l.Compile(before, files...)
	if more, ok := err.(Errors); ok { //nolint:errorlint // it is what compileAfter returns
		errs = append(errs, more...)
	} else if err != nil {
		return nil, err
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return next, nil
}

// File is a file of rules that was read already.
type File = compile.File

// Compile is Load for files that were read already.
func Compile(files ...File) (*Rules, error) {
	return (&Loader{Read: os.ReadFile}).Compile(nil, files...)
}

// Compile is Load for files that were read already.
func (l *Loader) Compile(before *Rules, files ...File) (*Rules, error) {
	options := compile.Options{ReadFile: l.Read, Labels: l.Labels, Inspector: l.Inspector}
	if before != nil {
		options.Before = before.program
	}
	program, err := compile.Compile(files, options)
	if err != nil {
		return nil, err
	}
	r := &Rules{program: program}
	for _, file := range files {
		r.files = append(r.files, file.Name)
	}
	return r, nil
}

// filesOf returns the files of rules at a path.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return FilesIn(path)
}

// FilesIn returns the files of rules in a directory: their names end in .yaml or .yml, and
// do not begin with a dot, as those of editors and of Kubernetes' volumes do.
func FilesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		ext := filepath.Ext(name)
		if (ext == ".yaml" || ext == ".yml") && name[0] != '.' {
			names = append(names, filepath.Join(dir, name))
		}
	}
	return names, err
}

// Files returns the files that the rules came from, and those that their sets came from.
func (r *Rules) Files() []string {
	return append(slices.Clone(r.files), r.program.Files()...)
}

// Sets returns all sets in the order in which they are asked.
func (r *Rules) Sets() []*Set { return r.program.Sets }

// Of returns the rules that concern a pod.
func (r *Rules) Of(pod *Pod) *List { return r.program.Fold(pod) }
