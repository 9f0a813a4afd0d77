// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// findings are what a verification has found.
type findings struct {
	// Fault is what differs from what should be, nil for nothing.
	Fault error
	// ForeignReader: another program reads a queue in the netns, for which no flow
	// is settled there any more.
	ForeignReader bool
}

// Verify compares the netns with what should be, of a walk through many of which
// at is this one, and ends settling where it can be misused.
func (p *parts) Verify(at netns.Place) findings {
	stats, err := p.verifyQueues(at)
	if err != nil {
		return findings{Fault: err}
	}
	foreign, err := p.distrust(stats)
	if err == nil {
		err = p.handle.Verify(at, p.selector)
	}
	return findings{Fault: err, ForeignReader: foreign}
}

// Check compares the netns with what should be. Its error says what differs.
func (p *parts) Check() error {
	if _, err := p.verifyQueues(p.ns); err != nil {
		return err
	}
	return p.handle.Verify(p.ns, p.selector)
}

// verifyQueues says what is wrong with the queues and their readers. It returns
// all queues that are bound in the netns, by whomever.
func (p *parts) verifyQueues(at netns.Place) ([]nfqueue.Stat, error) {
	stats, err := nfqueue.Stats(at)
	if err != nil {
		return nil, err
	}
	for _, l := range p.lanes {
		if err := l.check(stats); err != nil {
			return nil, err
		}
	}
	return stats, nil
}

// distrust ends settling where another program reads a queue of the netns, and
// reports whether it did: by the verdict of its own packet, and chains that it
// moves meanwhile, a pod with CAP_NET_ADMIN can put a request to settle behind our
// queue. The module sees whose verdict it is, nftables does not.
func (p *parts) distrust(stats []nfqueue.Stat) (foreign bool, err error) {
	if !p.selector.Settle.On() || p.hook.Kind() != hook.NFTables || len(stats) == len(p.lanes) {
		return false, nil
	}
	s := p.selector
	s.Settle = hook.Settle{}
	err = p.arm(s)
	return err == nil, err
}

// Repair puts right what Verify may have found.
func (p *parts) Repair(at netns.Place) error {
	for _, l := range p.lanes {
		if err := l.repair(at); err != nil {
			return err
		}
	}
	if p.handle.Verify(at, p.selector) == nil {
		return nil
	}
	if p.arm(p.selector) == nil && p.handle.Verify(at, p.selector) == nil {
		return nil
	}
	return p.reopenHook()
}

// reopenHook begins anew where the hook cannot be armed by its handle.
func (p *parts) reopenHook() error {
	handle, err := p.hook.Open(p.ns, nil)
	if err != nil {
		return err
	}
	p.setSettle(hook.Settle{})
	old := p.handle
	p.handle = handle
	return errors.Join(old.Close(), p.keeper.replaceTable(handle.File()), p.arm(p.selector))
}

// ReplaceHook arms h in place of a hook of another kind, and reports whether that
// was one.
func (p *parts) ReplaceHook(h hook.Hook) (changed bool, err error) {
	if p.hook.Kind() == h.Kind() {
		return false, nil
	}
	handle, err := h.Open(p.ns, nil)
	if err != nil {
		return false, err
	}
	warning, err := handle.Arm(p.selector)
	if err != nil {
		return false, errors.Join(err, handle.Remove())
	}
	old := p.handle
	p.hook, p.handle, p.warning = h, handle, warning
	p.setSettle(p.selector.Settle)
	return true, old.Close()
}
