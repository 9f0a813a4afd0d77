// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Findings are what a verification has found.
type Findings struct {
	// Fault is what differs from what should be, nil for nothing.
	Fault error
	// ForeignReader: another program reads a queue in the netns, for which no flow
	// is settled there any more.
	ForeignReader bool
}

// Verify compares the netns with what should be, of a walk through many of which
// at is this one, and ends settling where it can be misused.
func (d *Datapath) Verify(at netns.Place) Findings {
	stats, err := d.verifyQueues(at)
	if err != nil {
		return Findings{Fault: err}
	}
	foreign, err := d.distrust(stats)
	if err == nil {
		err = d.handle.Verify(at, d.selector)
	}
	return Findings{Fault: err, ForeignReader: foreign}
}

// Check compares the netns with what should be. Its error says what differs.
func (d *Datapath) Check() error {
	if _, err := d.verifyQueues(d.ns); err != nil {
		return err
	}
	return d.handle.Verify(d.ns, d.selector)
}

// verifyQueues says what is wrong with the queues and their readers. It returns
// all queues that are bound in the netns, by whomever.
func (d *Datapath) verifyQueues(at netns.Place) ([]nfqueue.Stat, error) {
	stats, err := nfqueue.Stats(at)
	if err != nil {
		return nil, err
	}
	for _, l := range d.lanes {
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
func (d *Datapath) distrust(stats []nfqueue.Stat) (foreign bool, err error) {
	if !d.selector.Settle.On() || d.hook.Kind() != hook.NFTables || len(stats) == len(d.lanes) {
		return false, nil
	}
	s := d.selector
	s.Settle = hook.Settle{}
	err = d.arm(s)
	return err == nil, err
}

// Repair puts right what Verify may have found.
func (d *Datapath) Repair(at netns.Place) error {
	for _, l := range d.lanes {
		if err := l.repair(at); err != nil {
			return err
		}
	}
	if d.handle.Verify(at, d.selector) == nil {
		return nil
	}
	if d.arm(d.selector) == nil && d.handle.Verify(at, d.selector) == nil {
		return nil
	}
	return d.reopenHook()
}

// reopenHook begins anew where the hook cannot be armed by its handle.
func (d *Datapath) reopenHook() error {
	handle, err := d.hook.Open(d.ns, nil)
	if err != nil {
		return err
	}
	d.setSettle(hook.Settle{})
	old := d.handle
	d.handle = handle
	return errors.Join(old.Close(), d.keeper.replaceTable(handle.File()), d.arm(d.selector))
}

// ReplaceHook arms h in place of a hook of another kind, and reports whether that
// was one.
func (d *Datapath) ReplaceHook(h hook.Hook) (changed bool, err error) {
	if d.hook.Kind() == h.Kind() {
		return false, nil
	}
	handle, err := h.Open(d.ns, nil)
	if err != nil {
		return false, err
	}
	warning, err := handle.Arm(d.selector)
	if err != nil {
		return false, errors.Join(err, handle.Remove())
	}
	old := d.handle
	d.hook, d.handle, d.warning = h, handle, warning
	d.setSettle(d.selector.Settle)
	return true, old.Close()
}
