// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"

	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// Down disarms, answers what waits, removes the hook and the queues. What is to be
// dropped is dropped by its verdict from now on, and not by the hook. In a netns
// without processes it does not wait for packets on their way to the queues.
func (d *Datapath) Down(deserted bool) error {
	d.setSettle(hook.Settle{})
	disarm := d.handle.Disarm
	if deserted {
		disarm = d.handle.DisarmEnded
	}
	err := disarm()
	fault.At(fault.Disarmed)
	if err == nil {
		err = errors.Join(d.drain(d.queues), d.drainPrograms())
	}
	fault.At(fault.Drained)
	return errors.Join(err, d.Remove())
}

// DownUnused takes down what was inherited and never brought up; h removes the
// hook that is there.
func (d *Datapath) DownUnused(h hook.Hook) error {
	if err := d.openHook(h); err != nil {
		return errors.Join(err, d.Remove())
	}
	return d.Down(false)
}

// Suspend ends inspection before this process ends, where no store has the
// descriptors. A netns whose packets may not pass uninspected stays armed, where
// the hook outlives the process; it returns whether that is so.
func (d *Datapath) Suspend() (armed bool, err error) {
	if d.selector.Bypass || !d.hook.Persistent() {
		return false, d.Down(false)
	}
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.close())
	}
	errs = append(errs, d.closeCopies())
	d.end()
	return true, errors.Join(append(errs, d.closeNetns(), d.handle.Close())...)
}

// Close closes what the store has copies of, and changes nothing in the kernel.
func (d *Datapath) Close() error {
	errs := []error{d.closeNetns(), d.closeCopies()}
	for _, q := range d.queues {
		errs = append(errs, q.letGo())
	}
	d.end()
	if d.handle != nil {
		errs = append(errs, d.handle.Close())
	}
	return errors.Join(errs...)
}

// Remove removes and closes whatever there is. Each socket of netfilter that is
// closed waits until the kernel has freed what was deleted in the netns, a grace
// period later: the store closes its copies before that, and ours are closed beside
// the caller.
func (d *Datapath) Remove() error {
	d.setSettle(hook.Settle{})
	errs := []error{d.stored.remove(), d.removeInherited()}
	fault.At(fault.LetGo)
	if d.handle != nil {
		errs = append(errs, d.handle.Remove())
		d.factory.closeLater(d.handle.Close)
	}
	fault.At(fault.HookRemoved)
	for _, q := range d.queues {
		errs = append(errs, q.remove())
		d.factory.closeLater(q.queue.Close)
	}
	for _, p := range d.programs {
		for _, c := range p.copies {
			errs = append(errs, c.Unbind())
			d.factory.closeLater(c.Close)
		}
	}
	d.end()
	return errors.Join(append(errs, d.closeNetns())...)
}

// removeInherited has nothing left in the store, and closed here, of what an earlier
// process left and Up has not taken over.
func (d *Datapath) removeInherited() error {
	i := d.inherited
	if i == nil {
		return nil
	}
	d.inherited = nil
	return errors.Join(d.stored.removeNamed(i.names), i.closeAll())
}
