// SPDX-License-Identifier: Apache-2.0

package compile

import "hash/maphash"

// maxKeys is how many literals a question has at most that an index is made of.
const maxKeys = 64

// equality is the question whether a variable is one of some literals.
type equality struct {
	variable *Variable
	literals []value
}

// membership is the question whether a variable is in a set. Equal ones are the same
// question. The zero value is none.
type membership struct {
	set      any // *sets.Domains or *sets.Prefixes
	variable int
}

func memberOf(set any, of value) membership {
	if of.variable == nil {
		return membership{}
	}
	return membership{set, of.variable.number}
}

// keys are what an index of long lists knows of a step: unless all of it may be true,
// the step is false.
type keys struct {
	equal  []equalKey
	member []memberKey
}

type equalKey struct {
	variable *Variable
	hashes   []uint16 // of the literals
}

type memberKey struct {
	what membership
	ask  func(*Flow) Tri
}

// keysOf returns the keys of a condition that has these parts.
func keysOf(seed maphash.Seed, parts []value) (k keys) {
	for i := range parts {
		if e := parts[i].equals; e != nil {
			hashes := make([]uint16, len(e.literals))
			for j := range e.literals {
				hashes[j] = e.literals[j].hash(seed)
			}
			k.equal = append(k.equal, equalKey{e.variable, hashes})
		}
		if parts[i].member.set != nil {
			k.member = append(k.member, memberKey{parts[i].member, parts[i].tri})
		}
	}
	return k
}

// hash returns the hash of a literal text or number.
func (v *value) hash(seed maphash.Seed) uint16 {
	if v.kind == kindString {
		return hashText(seed, v.text)
	}
	return hashNumber(v.number)
}

// hash returns the hash of the variable's value, which must be known. It is that of an
// equal literal.
func (v *Variable) hash(seed maphash.Seed, f *Flow) uint16 {
	if v.str != nil {
		return hashText(seed, v.str(f))
	}
	return hashNumber(v.num(f))
}

func hashText(seed maphash.Seed, text string) uint16 {
	return uint16(maphash.String(seed, text))
}

// hashNumber leaves ports as they are.
func hashNumber(number int64) uint16 { return uint16(number) }
