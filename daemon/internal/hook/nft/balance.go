// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// balanceChain chooses one of several queues, each of which has a chain.
const balanceChain = "balance"

func queueChain(i int) string { return fmt.Sprintf("queue_%d", i) }

// addBalance adds the chains by which several queues share the packets. The
// kernel's symmetric hash counts addresses, protocol and ports, as they are in
// the packet at the hook, the same in both directions.
func (l *layout) addBalance(s *hook.Selector, native bool) {
	numbers := set{
		id: queueNumbers, name: "__map%d", flags: unix.NFT_SET_MAP,
		keyType: typeInteger, keyLength: 4, hostOrder: true,
	}
	for i := range s.Count() {
		l.chains = append(l.chains, chain{
			name: queueChain(i), rules: []rule{{toQueue(s.Queue+uint16(i), s.Bypass, native)}},
		})
		numbers.elements = append(numbers.elements, element{
			key: native32(uint32(i)), chain: queueChain(i),
		})
	}
	l.anonymous = append(l.anonymous, numbers)
	l.chains = append(l.chains, chain{name: balanceChain, rules: []rule{{
		&expr.Hash{DestRegister: 1, Modulus: uint32(s.Count()), Type: expr.HashTypeSym},
		&expr.Lookup{
			SourceRegister: 1, IsDestRegSet: true, SetName: numbers.name, SetID: numbers.id,
		},
	}}})
}
