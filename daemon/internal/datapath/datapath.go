// SPDX-License-Identifier: Apache-2.0

// Package datapath is what one network namespace has in the kernel: queues with
// their readers, the hook, and copies of their descriptors in a store that outlives
// this process. It knows which packets are selected, and not for what.
//
// A [Factory] has what all netns of a node share, and is safe for concurrent use.
// A [Datapath] is not, but for its counters: its owner locks it. The methods of
// different datapaths may run at the same time.
package datapath

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// DrainLimit is how long detaching waits for the verdicts of packets that wait
// already; what is left then gets the policy's verdict.
const DrainLimit = 200 * time.Millisecond

// Datapath is what one netns has in the kernel. [Factory.New] and [Factory.Inherit]
// make one; Down, Suspend, Remove and Close each end one.
type Datapath struct {
	ns       *netns.NetNS
	lanes    []*lane
	hook     hook.Hook
	handle   hook.Handle // nil until Up
	selector hook.Selector
	warning  error       // of the last Arm
	settle   hook.Settle // by which the readers ask
	keeper   keeper
	factory  *Factory
	// from is what an earlier daemon left and nobody has taken up yet.
	from    *Inherited
	looked  look
	counted atomic.Pointer[counted]
}

// Up makes of what there is already all that there is to be. It reads first and
// arms then, so that no packet finds a queue without a reader. Where it fails,
// what was done stays, for another try or for Remove.
func (d *Datapath) Up(h hook.Hook, s hook.Selector, who *inspect.Attachment) error {
	if err := d.openLanes(who); err != nil {
		return err
	}
	if err := d.openHook(h); err != nil {
		return err
	}
	if err := d.arm(s); err != nil {
		return err
	}
	fault.At(fault.Armed)
	if err := d.setFailOpen(s.Bypass); err != nil {
		return err
	}
	return d.endInheritance()
}

// openLanes has the queues read that are to be and are not read yet.
func (d *Datapath) openLanes(who *inspect.Attachment) error {
	for i := range d.selector.Count() {
		number := d.selector.Queue + uint16(i)
		if slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.number() == number }) {
			continue
		}
		l, err := d.openLane(number, who)
		if err != nil {
			return err
		}
		d.lanes = append(d.lanes, l)
	}
	d.publish()
	return nil
}

// openHook prepares the hook, unless it is prepared, by the socket that kept it
// until now where there is one.
func (d *Datapath) openHook(h hook.Hook) error {
	if d.handle != nil {
		return nil
	}
	table := d.from.takeTable()
	handle, err := h.Open(d.ns, table)
	if err != nil {
		return err
	}
	d.hook, d.handle = h, handle
	fault.At(fault.HookOpened)
	f := d.handle.File()
	switch {
	case f == nil:
		return nil
	case table != nil:
		d.keeper.note(fdstore.Table, f)
		return nil
	}
	if err := d.keeper.keep(fdstore.Table, f); err != nil {
		return err
	}
	fault.At(fault.HookKept)
	return nil
}

// arm arms the selector. A hook that cannot settle flows queues them all. The
// readers learn that settling goes off before the hook does, and that it is on
// after: a request that nobody understands would let a packet pass.
func (d *Datapath) arm(s hook.Selector) error {
	before := d.settle
	if s.Settle != before || s.Directions != d.selector.Directions {
		d.setSettle(hook.Settle{})
	}
	warning, err := d.handle.Arm(s)
	if s.Settle.On() && errors.Is(err, hook.ErrNotSupported) {
		s.Settle = hook.Settle{}
		warning, err = d.handle.Arm(s)
	}
	if err != nil {
		d.setSettle(before)
		return err
	}
	d.selector, d.warning = s, warning
	d.setSettle(s.Settle)
	return nil
}

// setSettle tells the readers how to ask. None asks otherwise after its return.
func (d *Datapath) setSettle(s hook.Settle) {
	d.settle = s
	for _, l := range d.lanes {
		l.setSettle(s)
	}
}

// Rearm has the kernel look at all settled flows again, by another generation of
// them. Where flows are not settled, it has nothing to do.
func (d *Datapath) Rearm(settle hook.Settle) error {
	s := d.selector
	if !s.Settle.On() {
		return nil
	}
	s.Settle = settle
	return d.arm(s)
}

// SetPolicy says whether packets that cannot be inspected pass. A stricter policy
// is in force before it returns; the hook goes first, for it fails as a whole.
func (d *Datapath) SetPolicy(bypass bool) error {
	s := d.selector
	s.Bypass = bypass
	if err := d.arm(s); err != nil {
		return err
	}
	return d.setFailOpen(bypass)
}

func (d *Datapath) setFailOpen(open bool) error {
	errs := []error{d.keeper.setStrict(!open)}
	for _, l := range d.lanes {
		errs = append(errs, l.setFailOpen(open))
	}
	return errors.Join(errs...)
}

// endInheritance closes queues of an earlier configuration, to which nothing
// comes any more, and tells the store what is kept from now on.
func (d *Datapath) endInheritance() error {
	i := d.from
	if i == nil {
		return nil
	}
	d.from = nil
	first, count := d.selector.Queue, d.selector.Count()
	surplus := func(l *lane) bool { return l.number() < first || int(l.number()-first) >= count }
	var old, queues []*lane
	for _, l := range d.lanes {
		if surplus(l) {
			old = append(old, l)
		} else {
			queues = append(queues, l)
		}
	}
	i.untidy = i.untidy || old != nil
	d.lanes = queues
	errs := []error{d.drain(old), d.keeper.takeOver(i, d.lanes)}
	for _, l := range old {
		errs = append(errs, l.close())
	}
	d.publish()
	return errors.Join(append(errs, i.ns.Close())...)
}

// Down disarms, answers what waits, takes the hook out and closes. What is to be
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
		err = d.drain(d.lanes)
	}
	fault.At(fault.Drained)
	return errors.Join(err, d.Remove())
}

// DownUnused takes down what was inherited and never brought up; h takes out the
// hook that is there.
func (d *Datapath) DownUnused(h hook.Hook) error {
	if err := d.openHook(h); err != nil {
		return errors.Join(err, d.Remove())
	}
	return d.Down(false)
}

// Suspend ends inspection before this process ends, where nobody keeps the
// descriptors. A netns whose packets may not pass uninspected stays armed, where
// the hook outlives the process; it returns whether that is so.
func (d *Datapath) Suspend() (armed bool, err error) {
	if d.selector.Bypass || !d.hook.Persistent() {
		return false, d.Down(false)
	}
	return true, errors.Join(d.closeLanes(), d.handle.Close())
}

// drain returns when every packet that has come to the lanes has its verdict
// and is through. Nothing may come any more.
func (d *Datapath) drain(lanes []*lane) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(DrainLimit)
	for _, l := range lanes {
		for ; ; <-poll.C {
			stat, bound, err := l.queue.Stat(d.ns)
			if err != nil {
				return err
			}
			if !bound || (stat.Waiting == 0 && !l.reader.Busy()) {
				break
			}
			if !time.Now().After(deadline) {
				continue
			}
			if err := l.queue.AnswerAll(stat.Sequence, d.selector.Bypass); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// Remove takes out and closes whatever there is. Each socket of netfilter that
// is closed waits until the kernel has freed what was deleted in the netns, a
// grace period later: the supervisor lets go of its copies before that, and ours
// are closed beside the caller.
func (d *Datapath) Remove() error {
	d.setSettle(hook.Settle{})
	errs := []error{d.keeper.letGo()}
	fault.At(fault.LetGo)
	if d.handle != nil {
		errs = append(errs, d.handle.Delete())
		d.factory.closeLater(d.handle.Close)
	}
	fault.At(fault.HookRemoved)
	for _, l := range d.lanes {
		errs = append(errs, l.end())
		d.factory.closeLater(l.queue.Close)
	}
	return errors.Join(append(errs, d.ns.Close())...)
}

// closeLanes closes the queues and lets go of the netns.
func (d *Datapath) closeLanes() error {
	var errs []error
	for _, l := range d.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(append(errs, d.ns.Close())...)
}

// Close closes what somebody else keeps, and changes nothing in the kernel.
func (d *Datapath) Close() error {
	errs := []error{d.ns.Close()}
	for _, l := range d.lanes {
		errs = append(errs, l.queue.Close())
	}
	if d.handle != nil {
		errs = append(errs, d.handle.Close())
	}
	return errors.Join(errs...)
}

// Netns returns the netns, which is closed with the datapath.
func (d *Datapath) Netns() *netns.NetNS { return d.ns }

// Hook returns the kind of the hook that is armed.
func (d *Datapath) Hook() hook.Kind { return d.hook.Kind() }

// Bypass reports whether packets that cannot be inspected pass.
func (d *Datapath) Bypass() bool { return d.selector.Bypass }

// Warning tells of another program in the netns that holds what is ours, though
// the hook is armed in spite of it; nil where there is none.
func (d *Datapath) Warning() error { return d.warning }

// InterfaceIndex returns the index of the interface with a name.
func (d *Datapath) InterfaceIndex(name string) (uint32, error) {
	return d.lanes[0].queue.InterfaceIndex(name)
}

// HasInterface fails with ENODEV where the netns has no interface of an index.
func (d *Datapath) HasInterface(index uint32) error { return d.lanes[0].queue.HasInterface(index) }
