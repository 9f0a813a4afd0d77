// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"crypto/sha256"
	"encoding/binary"
)

// signatureOf returns the number of what has this name, which is 1 or more and has 31
// bits. Only the name counts, so that events keep it when a rule is changed.
func signatureOf(name string) uint32 {
	sum := sha256.Sum256([]byte(name))
	return max(1, binary.BigEndian.Uint32(sum[:])&0x7fffffff)
}

// number gives the set, its rules, and what it decides without a rule their signatures.
func (s *Set) number() {
	s.ofDefault = signatureOf(nameOf(s, nil, false))
	s.ofMidstream = signatureOf(nameOf(s, nil, true))
	for _, rule := range s.Rules {
		rule.Signature = signatureOf(nameOf(s, rule, false))
	}
}

// Signature returns the number of what decided, or 0 after the end of all sets. It is
// that of the decision's name.
func (d Decision) Signature() uint32 { return signature(d.Set, d.Rule, d.Midstream) }

// Signature returns the number of what has the effect. It is that of the effect's name.
func (e Effect) Signature() uint32 { return signature(e.Set, e.Rule, e.Midstream) }

func signature(set *Set, rule *Rule, midstream bool) uint32 {
	switch {
	case set == nil:
		return 0
	case rule != nil:
		return rule.Signature
	case midstream:
		return set.ofMidstream
	}
	return set.ofDefault
}
