// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// layout is everything that the table holds for a selector, in an order in
// which it can be made: what is referred to comes first.
type layout struct {
	sets      []set
	anonymous []set
	chains    []chain
}

// chain is a list of rules, which packets meet at a hook point or where
// another chain sends them.
type chain struct {
	name  string
	point *uint32 // none: not a base chain
	rules []rule
	// comment is on each of its rules.
	comment string
}

// newLayout returns what the table holds for s in a netns where requests are
// heeded in some directions already.
func newLayout(s *hook.Selector, heeded hook.Directions, native bool) (layout, error) {
	var l layout
	l.chains = []chain{{name: defragChain, rules: defragRules()}}
	if s.Settle.On() {
		l.addSettle(s.Settle)
	}
	if s.Count() > 1 {
		l.addBalance(s, native)
	}
	heeded |= settles(s)
	for _, p := range hookPoints() {
		settle, queue := p.base()
		settle.rules, queue.rules = restRules(&p, heeded)
		if settles(s)&p.direction != 0 {
			settle.rules = settleRules(s.Settle)
		}
		if s.Directions&p.direction != 0 {
			queue.rules = append(queue.rules, queueRules(&p, s, native)...)
		}
		l.chains = append(l.chains, settle, queue)
	}
	err := l.addDigest()
	return l, err
}

// settles are the directions in which s lets verdicts settle flows.
func settles(s *hook.Selector) hook.Directions {
	if !s.Settle.On() {
		return 0
	}
	return s.Directions
}

// restRules are those of the base chains where nothing is selected. Requests
// are heeded where flows could be settled before: the verdict of a packet that
// waits may still drop it by one. So what a pod puts into the priority of its
// packets is cleared first.
func restRules(p *hookPoint, heeded hook.Directions) (settle, queue []rule) {
	if heeded&p.direction == 0 {
		return nil, nil
	}
	return heedRules(), []rule{clearRequest()}
}
