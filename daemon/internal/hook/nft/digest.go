// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// addDigest puts the layout's digest into the comment of the rule that no packet
// meets. The kernel lists rules in other words than those that it is told them in, so
// their contents are compared by this digest: while a table has an owner, no other
// program can change the rules and leave it.
func (l *layout) addDigest() error {
	digest := sha256.New()
	var requests []request
	for _, s := range slices.Concat(l.sets, l.anonymous) {
		requests = append(requests, newSet(&s), newElements(&s))
	}
	for _, c := range l.chains {
		requests = append(requests, newChain(&c))
		requests = append(requests, newRules(&c)...)
	}
	for _, r := range requests {
		b, err := r.body()
		if err != nil {
			return err
		}
		digest.Write(b)
	}
	l.chains[0].comment = fmt.Sprintf("rules %x", digest.Sum(nil)[:16])
	return nil
}
