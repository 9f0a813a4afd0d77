// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"
)

const (
	// indexFrom is how many steps a list has before it gets an index.
	indexFrom = 100
	// groupFrom is how many steps a group of an index has at least.
	groupFrom = 16
	// maxGroups bounds the groups of an index.
	maxGroups = 8
	// distinct is how many values a variable is compared with before it parts a list
	// better than a set does.
	distinct = 4
)

// index finds the steps of a list that are not false, without asking most of the others.
// Its numbers are places in the list.
type index struct {
	groups []group
	rest   []uint16 // steps that are always asked
}

// group is steps that all ask the same thing of a flow: which literal a variable is equal
// to, or whether it is in a set.
type group struct {
	all []uint16
	ask func(*Flow) Tri // nil for literals

	variable *Variable
	need     Stage // when the variable is known
	// hashes are those of literals, in order. The step of each has the same place in steps.
	hashes, steps []uint16
	// unknown is an index of all for while the variable is not known. Nil: there is none.
	unknown *index
}

// indexOf returns the index of a list that is long enough for one to be worth its while.
func (p *Program) indexOf(l *List) *index {
	if len(l.numbers) < p.indexFrom {
		return nil
	}
	places := make([]uint16, len(l.numbers))
	for i := range places {
		places[i] = uint16(i)
	}
	b := &builder{program: p, list: l}
	return b.build(places)
}

// builder makes an index of a list.
type builder struct {
	program *Program
	list    *List
	without nameSet // variables that are not known
}

// choice is what a group is made by: a variable, or a set.
type choice struct {
	variable *Variable
	member   membership
}

func (b *builder) keys(place uint16) *keys {
	if rule := b.program.steps[b.list.numbers[place]].rule; rule != nil {
		return &rule.keys
	}
	return &keys{}
}

// build returns an index of these places, or nil if most of the steps would be asked
// always.
func (b *builder) build(places []uint16) *index {
	values := b.values(places)
	members := make(map[choice][]uint16)
	for _, place := range places {
		if c := b.choose(place, values); c != (choice{}) {
			members[c] = append(members[c], place)
		}
	}
	var chosen []choice
	for c, all := range members {
		if len(all) >= b.program.groupFrom {
			chosen = append(chosen, c)
		}
	}
	slices.SortFunc(chosen, func(x, y choice) int {
		return cmp.Or(len(members[y])-len(members[x]), int(members[x][0])-int(members[y][0]))
	})
	chosen = chosen[:min(len(chosen), maxGroups)]
	result := &index{rest: slices.Clone(places)}
	for _, c := range chosen {
		result.groups = append(result.groups, b.group(c, members[c]))
		result.rest = without(result.rest, members[c])
	}
	if len(result.rest) > len(places)/2 {
		return nil
	}
	result.rest = slices.Clip(result.rest)
	return result
}

// without returns those of places that are not among others. Both are in order.
func without(places, others []uint16) []uint16 {
	return slices.DeleteFunc(places, func(place uint16) bool {
		_, found := slices.BinarySearch(others, place)
		return found
	})
}

// values counts the literals that variables are compared with, by their numbers.
func (b *builder) values(places []uint16) (counts [64]int) {
	type literal struct {
		variable int
		hash     uint16
	}
	seen := make(map[literal]struct{})
	for _, place := range places {
		for _, key := range b.keys(place).equal {
			for _, hash := range key.hashes {
				seen[literal{key.variable.number, hash}] = struct{}{}
			}
		}
	}
	for one := range seen {
		counts[one.variable]++
	}
	return counts
}

// choose returns by what a step is skipped best: the variable with the most values, else
// a set, else any variable.
func (b *builder) choose(place uint16, values [64]int) (best choice) {
	most := 0
	keys := b.keys(place)
	for _, key := range keys.equal {
		n := values[key.variable.number]
		if b.without&(1<<key.variable.number) == 0 && n > most {
			most, best = n, choice{variable: key.variable}
		}
	}
	if most >= distinct {
		return best
	}
	for _, key := range keys.member {
		if b.without&(1<<key.what.variable) == 0 {
			return choice{member: key.what}
		}
	}
	return best
}

// group makes a group of the steps at these places.
func (b *builder) group(c choice, all []uint16) group {
	g := group{all: slices.Clip(all)}
	if c.variable == nil {
		for _, key := range b.keys(all[0]).member {
			if key.what == c.member {
				g.ask = key.ask
			}
		}
		return g
	}
	g.variable, g.need = c.variable, c.variable.Reads&Everything
	b.literals(&g)
	if b.without == 0 && len(all) >= b.program.indexFrom {
		inner := *b
		inner.without |= 1 << c.variable.number
		g.unknown = inner.build(all)
	}
	return g
}

// literals sorts the steps of a group by the hashes of their literals.
func (b *builder) literals(g *group) {
	var pairs []uint32
	for _, place := range g.all {
		for _, key := range b.keys(place).equal {
			if key.variable.number != g.variable.number {
				continue
			}
			for _, hash := range key.hashes {
				pairs = append(pairs, uint32(hash)<<16|uint32(place))
			}
			break // all keys must be true: the first will do
		}
	}
	slices.Sort(pairs)
	pairs = slices.Compact(pairs)
	g.hashes, g.steps = make([]uint16, len(pairs)), make([]uint16, len(pairs))
	for i, pair := range pairs {
		g.hashes[i], g.steps[i] = uint16(pair>>16), uint16(pair)
	}
}

// with returns the steps of a hash.
func (g *group) with(hash uint16) []uint16 {
	start, found := slices.BinarySearch(g.hashes, hash)
	if !found {
		return nil
	}
	end := start
	for end < len(g.hashes) && g.hashes[end] == hash {
		end++
	}
	return g.steps[start:end]
}
