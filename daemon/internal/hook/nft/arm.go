// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// contents are the names of what the kernel has in the table.
type contents struct {
	chains, sets []string
}

// Arm makes the table, or empties and fills the one that is there: base chains
// are never replaced, because one that goes takes the waiting packets of all
// queues with it.
func (t *table) Arm(s hook.Selector) (warning, err error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t.verified = verified{}
	known := t.have != nil
	warning, err = t.arm(&s)
	if err != nil && !known { // others may have changed what we saw: look again
		warning, err = t.arm(&s)
	}
	return warning, err
}

// arm is one attempt.
func (t *table) arm(s *hook.Selector) (warning, err error) {
	warning, err = t.learn()
	if err != nil {
		return nil, t.explain("list", err)
	}
	if err := t.change(s); err != nil {
		return nil, err
	}
	return warning, nil
}

// change makes the table that was learned what s wants.
func (t *table) change(s *hook.Selector) error {
	l, err := newLayout(s, t.heeded, t.hook.native)
	if err != nil {
		return err
	}
	if t.kept && len(t.stale) == 0 && t.check(&l) == nil {
		return nil
	}
	if err := t.prepareSettle(s); err != nil {
		t.have = nil
		return t.explain("prepare", err)
	}
	if err := t.transact(t.armRequests(&l)); err != nil {
		t.have = nil
		return t.explain("arm", err)
	}
	t.have, t.stale, t.kept, t.remake = l.contents(), nil, true, false
	t.heeded |= settles(s)
	return nil
}

// learn finds out what an earlier process left in the table. Its settled flows
// are to be looked at again; what is not ours was put there while the table
// had no owner, and a table with that in it is made anew.
func (t *table) learn() (warning, err error) {
	if t.have != nil {
		return t.lookAgain()
	}
	warning, err = t.choose()
	if err != nil {
		return nil, err
	}
	have, err := t.list()
	if err != nil {
		return nil, err
	}
	t.have, t.stale, t.heeded = have, have.sets, 0
	foreign := func(name string) bool { return !ours(name) }
	t.remake = t.remake || (!t.kept && slices.ContainsFunc(have.chains, foreign))
	if t.kept {
		t.heeded, err = t.listHeeded()
	}
	return warning, err
}

// listHeeded returns the directions in which a predecessor let flows be settled:
// the packets that missed the rule that clears were through before it began to.
func (t *table) listHeeded() (heeded hook.Directions, err error) {
	rules, _, err := t.listRules()
	for _, p := range places() {
		settle, queue := p.base()
		first := rules[queue.name]
		if len(rules[settle.name]) > 0 && len(first) > 0 &&
			slices.Equal(first[0], clearRequest().names()) {
			heeded |= p.direction
		}
	}
	return heeded, err
}

// ours reports whether the table may have a chain of this name.
func ours(name string) bool {
	if strings.HasPrefix(name, queueChain(0)[:len(queueChain(0))-1]) {
		return true
	}
	for _, p := range places() {
		if settle, queue := p.base(); name == settle.name || name == queue.name {
			return true
		}
	}
	return slices.Contains([]string{
		defragChain, lookupChain, udpChain, quicChain, flowsChain,
		acceptChain, dropChain, endChain, balanceChain,
	}, name)
}

// prepareSettle makes every packet that the rules of s will meet one whose
// request is its verdict's: where packets are not cleared of requests yet, it
// adds the rule that does it and waits for those that have missed it.
func (t *table) prepareSettle(s *hook.Selector) error {
	if settles(s)&^t.heeded == 0 {
		return nil
	}
	requests := t.tableRequests()
	for _, p := range places() {
		settle, queue := p.base()
		requests = append(requests, newChain(&settle), newChain(&queue))
		if settles(s)&^t.heeded&p.direction != 0 {
			requests = append(requests, newRule(queue.name, clearRequest(), "", 0))
		}
	}
	if err := t.transact(requests); err != nil {
		return err
	}
	t.kept, t.remake = true, false
	return gracePeriod()
}

// tableRequests make the table or take it over.
func (t *table) tableRequests() []request {
	if !t.remake {
		return []request{t.newTable()}
	}
	// Nobody owns it, so it can be deleted, and that is all we may do with a
	// table that was made without the flag.
	t.have, t.stale = &contents{}, nil
	return []request{deleteTable(), t.newTable()}
}

// armRequests turn what the table has into l.
func (t *table) armRequests(l *layout) []request {
	requests := t.tableRequests()
	for _, name := range []string{counterQueued, counterExempt, counterSettled} {
		requests = append(requests, newCounter(name))
	}
	for _, c := range l.chains {
		requests = append(requests, newChain(&c))
	}
	want := l.contents()
	// Rules refer to chains and sets: they go first and come last.
	old := missing(t.have.chains, want.chains)
	for _, name := range slices.Concat(want.chains, old) {
		requests = append(requests, flushChain(name))
	}
	for _, name := range old {
		requests = append(requests, deleteChain(name))
	}
	keep := missing(t.have.sets, t.stale)
	for _, name := range missing(t.have.sets, missing(want.sets, t.stale)) {
		requests = append(requests, deleteSet(name))
	}
	for _, s := range slices.Concat(l.sets, l.anonymous) {
		if slices.Contains(keep, s.name) {
			continue
		}
		requests = append(requests, newSet(&s))
		if s.elements != nil {
			requests = append(requests, newElements(&s))
		}
	}
	for _, c := range l.chains {
		requests = append(requests, newRules(&c)...)
	}
	return requests
}

// contents returns what the kernel will list, without the anonymous sets.
func (l *layout) contents() *contents {
	c := &contents{}
	for _, ch := range l.chains {
		c.chains = append(c.chains, ch.name)
	}
	for _, s := range l.sets {
		c.sets = append(c.sets, s.name)
	}
	return c
}

// missing returns the names that others lacks.
func missing(names, others []string) []string {
	var left []string
	for _, n := range names {
		if !slices.Contains(others, n) {
			left = append(left, n)
		}
	}
	return left
}

// list returns what the kernel has.
func (t *table) list() (*contents, error) {
	chains, err := t.names(unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME)
	if err != nil {
		return nil, err
	}
	sets, err := t.names(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	if err != nil {
		return nil, err
	}
	sets = slices.DeleteFunc(sets, func(name string) bool { return strings.HasPrefix(name, "__") })
	return &contents{chains: chains, sets: sets}, nil
}

// names lists the objects of a kind in the table.
func (t *table) names(kind, tableAttr, nameAttr uint16) ([]string, error) {
	var names []string
	err := t.conn.list("", kind, func(ad *netlink.AttributeDecoder) error {
		var in, name string
		for ad.Next() {
			switch ad.Type() {
			case tableAttr:
				in = ad.String()
			case nameAttr:
				name = ad.String()
			}
		}
		if in == t.name {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// Disarm leaves nothing in the base chains but what heeds requests, keeps the
// rest, and waits for the packets that are still being judged by the old rules.
func (t *table) Disarm() error {
	if err := t.DisarmEnded(); err != nil {
		return err
	}
	return gracePeriod()
}

// DisarmEnded does the same and does not wait.
func (t *table) DisarmEnded() error {
	var requests []request
	for _, p := range places() {
		settle, queue := p.base()
		settle.rules, queue.rules = restRules(&p, t.heeded)
		for _, c := range []chain{settle, queue} {
			requests = append(append(requests, flushChain(c.name)), newRules(&c)...)
		}
	}
	if t.name == "" {
		if _, err := t.choose(); errors.Is(err, hook.ErrForeign) {
			return nil // never armed
		} else if err != nil {
			return t.explain("find", err)
		}
	}
	err := t.transact(requests)
	if errors.Is(err, unix.ENOENT) { // never armed
		return nil
	}
	if err != nil {
		return t.explain("disarm", err)
	}
	return nil
}

// gracePeriod waits until every packet that met the old rules is in the queue
// or past our chains: the kernel's packet path runs in RCU read sections, and a
// global membarrier waits for the end of all that have begun.
func gracePeriod() error {
	const membarrierGlobal = 1
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	if errno == 0 || errno == unix.ENOSYS || errno == unix.EINVAL { // EINVAL: nohz_full
		return nil
	}
	return os.NewSyscallError("membarrier", errno)
}

// explain says what an error means that somebody in the netns may cause.
func (t *table) explain(verb string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EEXIST) {
		err = errors.Join(hook.ErrForeign, err)
	}
	return fmt.Errorf("%s table inet %s: %w", verb, cmp.Or(t.name, tableName), err)
}
