// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// learn finds out what an earlier process left in the table. Packets of its settled
// flows are to be queued again, unless they are to be kept, the table is armed and has
// had an owner all the time: whoever is in the netns can fill the sets of another one.
// Chains of other names were put there while the table had no owner, and a table with
// those in it is made again.
func (t *table) learn(keep bool) (warning, err error) {
	if t.have != nil {
		return t.lookAgain()
	}
	warning, err = t.chooseName()
	if err != nil {
		return nil, err
	}
	have, err := t.list()
	if err != nil {
		return nil, err
	}
	t.have, t.stale, t.heeded = have, have.sets, 0
	foreign := func(name string) bool { return !isChain(name) }
	t.remake = t.remake || (!t.kept && slices.ContainsFunc(have.chains, foreign))
	if !t.kept {
		return warning, nil
	}
	var armed bool
	if t.heeded, armed, err = t.listHeeded(); armed && keep {
		t.stale = nil
	}
	return warning, err
}

// listHeeded returns the directions in which a predecessor let flows be settled:
// the packets that missed the rule that clears were through before it began to. It
// reports whether there are other rules behind that one.
func (t *table) listHeeded() (heeded hook.Directions, armed bool, err error) {
	rules, _, err := t.listRules()
	for _, p := range hookPoints() {
		settle, queue := p.base()
		first := rules[queue.name]
		if len(rules[settle.name]) > 0 && len(first) > 0 &&
			slices.Equal(first[0], clearRequest().names()) {
			heeded |= p.direction
			armed = armed || len(first) > 1
		}
	}
	return heeded, armed, err
}

// isChain reports whether the hook has a chain of this name.
func isChain(name string) bool {
	if strings.HasPrefix(name, queueChain(0)[:len(queueChain(0))-1]) {
		return true
	}
	for _, p := range hookPoints() {
		if settle, queue := p.base(); name == settle.name || name == queue.name {
			return true
		}
	}
	return slices.Contains([]string{
		defragChain, lookupChain, udpChain, quicChain, flowsChain,
		acceptChain, dropChain, endChain, balanceChain,
	}, name)
}
