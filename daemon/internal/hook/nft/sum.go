// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// sign puts the layout's sum into the comment of the rule that nobody meets.
// The kernel tells rules otherwise than it is told them, so their contents are
// compared by this sum: while a table has an owner, nobody else can change the
// rules and leave it.
func (l *layout) sign() error {
	sum := sha256.New()
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
		sum.Write(b)
	}
	l.chains[0].comment = fmt.Sprintf("rules %x", sum.Sum(nil)[:16])
	return nil
}
