// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math"
	"slices"
	"sync"
)

// Program is what a number of files of rules compile to.
type Program struct {
	Sets []*Set // in the order in which they are asked

	files []string
	steps []step

	labels               bool // those of pods are known
	variables            []Variable
	seed                 maphash.Seed
	indexFrom, groupFrom int

	mu    sync.Mutex
	lists map[string]*List // by the bytes of their numbers
}

// step is one question to a flow.
type step struct {
	ask  func(*Flow) Tri // nil: true
	set  *Set
	rule *Rule // nil: a default, or what a set does midstream
	// midstream tells the second of these from the first.
	midstream bool
	action    Action
}

// List is the rules of a program that concern a pod. Pods with the same ones share it.
type List struct {
	program    *Program
	numbers    []uint16 // of steps
	reads      Stage
	hash       string
	index      *index // nil: all steps are asked
	readsNames bool
	readsUser  bool
	inspectors []string
}

// Files returns the names of the files that the sets' names were read from.
func (p *Program) Files() []string {
	list := slices.Clone(p.files)
	slices.Sort(list)
	return slices.Compact(list)
}

// link numbers the steps of the program.
func (p *Program) link(errs *Errors) {
	p.lists = make(map[string]*List)
	for _, set := range p.Sets {
		set.first = len(p.steps)
		set.nameDecisions()
		if set.AcceptMidstream {
			p.steps = append(p.steps, step{
				ask: knownFlag(Packet, func(f *Flow) bool { return f.Midstream }),
				set: set, midstream: true, action: Accept,
			})
		}
		for _, rule := range set.Rules {
			p.steps = append(p.steps, step{
				ask: rule.flow, set: set, rule: rule, action: rule.Action,
			})
		}
		if set.Default != Next {
			p.steps = append(p.steps, step{set: set, action: set.Default})
		}
		set.steps = len(p.steps) - set.first
	}
	if len(p.steps) > math.MaxUint16 {
		last := p.Sets[len(p.Sets)-1]
		*errs = append(*errs, Error{
			File: last.Source, Line: last.Line, Column: 1,
			Text: "all files together have more than 65,000 rules: " +
				"put names and networks into sets",
		})
	}
}

// Fold returns the rules that concern a pod.
func (p *Program) Fold(pod *Pod) *List {
	f := &Flow{Pod: pod}
	var numbers []uint16
	for _, set := range p.Sets {
		if set.selects(f) {
			numbers = p.fold(set, f, numbers)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := bytesOf(numbers)
	if list := p.lists[string(key)]; list != nil {
		return list
	}
	list := p.newList(slices.Clip(numbers))
	p.lists[string(key)] = list
	return list
}

// fold adds the steps of a set that concern a pod.
func (p *Program) fold(set *Set, f *Flow, numbers []uint16) []uint16 {
	for i := set.first; i < set.first+set.steps; i++ {
		rule := p.steps[i].rule
		if rule != nil && rule.pod != nil && rule.pod(f) != True {
			continue
		}
		numbers = append(numbers, uint16(i))
	}
	return numbers
}

// bytesOf returns the bytes of numbers, as the key of a map.
func bytesOf(numbers []uint16) []byte {
	key := make([]byte, 0, 2*len(numbers))
	for _, number := range numbers {
		key = binary.BigEndian.AppendUint16(key, number)
	}
	return key
}

// newList makes the list of these steps, with its hash.
func (p *Program) newList(numbers []uint16) *List {
	list := &List{program: p, numbers: numbers}
	h := sha256.New()
	var set *Set
	for _, number := range numbers {
		step := &p.steps[number]
		if step.set != set {
			set = step.set
			_, _ = h.Write(set.digest())
		}
		if step.rule != nil {
			_, _ = h.Write(step.rule.digest[:])
			list.reads |= step.rule.Reads
			list.addInspector(step)
		}
	}
	list.index = p.indexOf(list)
	list.readsNames = list.uses("server.names")
	list.readsUser = list.uses("socket.uid") || list.says("socket.uid")
	list.hash = hex.EncodeToString(h.Sum(nil)[:16])
	return list
}

// Hash is equal for equal rules, in whichever program they are.
func (l *List) Hash() string { return l.hash }

// Reads returns the stages that some rule of the list reads.
func (l *List) Reads() Stage { return l.reads }

// Rules returns the rules of the list in the order in which they are asked.
func (l *List) Rules() []*Rule {
	var rules []*Rule
	for _, number := range l.numbers {
		if rule := l.program.steps[number].rule; rule != nil {
			rules = append(rules, rule)
		}
	}
	return rules
}

// Sets returns the sets that concern the pod, in the order in which they are asked. A set
// that has neither a rule for the pod nor a default nor accepts midstream is left out.
func (l *List) Sets() []*Set {
	var list []*Set
	for _, number := range l.numbers {
		if set := l.program.steps[number].set; len(list) == 0 || list[len(list)-1] != set {
			list = append(list, set)
		}
	}
	return list
}
