// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
)

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
	if err != nil && !known { // what was seen may have changed since: look again
		warning, err = t.arm(&s)
	}
	return warning, err
}

// arm is one attempt.
func (t *table) arm(s *hook.Selector) (warning, err error) {
	warning, err = t.learn(s.KeepSettled)
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

// prepareSettle makes every packet that the rules of s will meet one whose
// request is its verdict's: where packets are not cleared of requests yet, it
// adds the rule that does it and waits for those that have missed it.
func (t *table) prepareSettle(s *hook.Selector) error {
	if settles(s)&^t.heeded == 0 {
		return nil
	}
	requests := t.tableRequests()
	for _, p := range hookPoints() {
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
	return kernel.GracePeriod()
}

// tableRequests make the table or take it over.
func (t *table) tableRequests() []request {
	if !t.remake {
		return []request{t.newTable()}
	}
	// It has no owner, so it can be deleted, and that is all that can be done with a
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
	requests = append(requests, t.setRequests(l, want.sets)...)
	for _, c := range l.chains {
		requests = append(requests, newRules(&c)...)
	}
	return requests
}

// setRequests replace the sets that are stale or not wanted by those that lack.
func (t *table) setRequests(l *layout, want []string) []request {
	var requests []request
	keep := missing(t.have.sets, t.stale)
	for _, name := range missing(t.have.sets, missing(want, t.stale)) {
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
	return requests
}

// explain says what an error means that another program in the netns may cause.
func (t *table) explain(verb string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EEXIST) {
		err = errors.Join(hook.ErrForeign, err)
	}
	return fmt.Errorf("%s table inet %s: %w", verb, cmp.Or(t.name, firstName), err)
}
