// SPDX-License-Identifier: Apache-2.0

package registry

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

// drainLimit is how long detaching waits for the verdicts of packets that wait
// already; what is left then gets the policy's verdict.
const drainLimit = 200 * time.Millisecond

// parts are what a binding holds in the kernel.
type parts struct {
	ns       *netns.NetNS
	lanes    []*lane
	hook     hook.Hook
	handle   hook.Handle // nil until complete
	selector hook.Selector
	warning  error       // of the last Arm
	settle   hook.Settle // by which the readers ask
	keeper   keeper
	factory  *factory
	// from is what an earlier daemon left and nobody has taken up yet.
	from    *inheritance
	looked  look
	counted atomic.Pointer[counted]
}

// Up makes of what there is already all that there is to be. It reads first and
// arms then, so that no packet finds a queue without a reader. Where it fails,
// what was done stays, for another try or for Remove.
func (p *parts) Up(h hook.Hook, s hook.Selector, who *inspect.Attachment) error {
	if err := p.openLanes(who); err != nil {
		return err
	}
	if err := p.openHook(h); err != nil {
		return err
	}
	if err := p.arm(s); err != nil {
		return err
	}
	fault.At(fault.Armed)
	if err := p.setFailOpen(s.Bypass); err != nil {
		return err
	}
	return p.endInheritance()
}

// openLanes has the queues read that are to be and are not read yet.
func (p *parts) openLanes(who *inspect.Attachment) error {
	for i := range p.selector.Count() {
		number := p.selector.Queue + uint16(i)
		if slices.ContainsFunc(p.lanes, func(l *lane) bool { return l.number() == number }) {
			continue
		}
		l, err := p.openLane(number, who)
		if err != nil {
			return err
		}
		p.lanes = append(p.lanes, l)
	}
	p.publish()
	return nil
}

// openHook prepares the hook, unless it is prepared, by the socket that kept it
// until now where there is one.
func (p *parts) openHook(h hook.Hook) error {
	if p.handle != nil {
		return nil
	}
	table := p.from.takeTable()
	handle, err := h.Open(p.ns, table)
	if err != nil {
		return err
	}
	p.hook, p.handle = h, handle
	fault.At(fault.HookOpened)
	f := p.handle.File()
	switch {
	case f == nil:
		return nil
	case table != nil:
		p.keeper.note(fdstore.Table, f)
		return nil
	}
	if err := p.keeper.keep(fdstore.Table, f); err != nil {
		return err
	}
	fault.At(fault.HookKept)
	return nil
}

// arm arms the selector. A hook that cannot settle flows queues them all. The
// readers learn that settling goes off before the hook does, and that it is on
// after: a request that nobody understands would let a packet pass.
func (p *parts) arm(s hook.Selector) error {
	before := p.settle
	if s.Settle != before || s.Directions != p.selector.Directions {
		p.setSettle(hook.Settle{})
	}
	warning, err := p.handle.Arm(s)
	if s.Settle.On() && errors.Is(err, hook.ErrNotSupported) {
		s.Settle = hook.Settle{}
		warning, err = p.handle.Arm(s)
	}
	if err != nil {
		p.setSettle(before)
		return err
	}
	p.selector, p.warning = s, warning
	p.setSettle(s.Settle)
	return nil
}

// setSettle tells the readers how to ask. None asks otherwise after its return.
func (p *parts) setSettle(s hook.Settle) {
	p.settle = s
	for _, l := range p.lanes {
		l.setSettle(s)
	}
}

// Rearm has the kernel look at all settled flows again, by another generation of
// them. Where flows are not settled, it has nothing to do.
func (p *parts) Rearm(settle hook.Settle) error {
	s := p.selector
	if !s.Settle.On() {
		return nil
	}
	s.Settle = settle
	return p.arm(s)
}

// SetPolicy says whether packets that cannot be inspected pass. A stricter policy
// is in force before it returns; the hook goes first, for it fails as a whole.
func (p *parts) SetPolicy(bypass bool) error {
	s := p.selector
	s.Bypass = bypass
	if err := p.arm(s); err != nil {
		return err
	}
	return p.setFailOpen(bypass)
}

func (p *parts) setFailOpen(open bool) error {
	errs := []error{p.keeper.setStrict(!open)}
	for _, l := range p.lanes {
		errs = append(errs, l.setFailOpen(open))
	}
	return errors.Join(errs...)
}

// endInheritance closes queues of an earlier configuration, to which nothing
// comes any more, and tells the store what is kept from now on.
func (p *parts) endInheritance() error {
	i := p.from
	if i == nil {
		return nil
	}
	p.from = nil
	first, count := p.selector.Queue, p.selector.Count()
	surplus := func(l *lane) bool { return l.number() < first || int(l.number()-first) >= count }
	var old, queues []*lane
	for _, l := range p.lanes {
		if surplus(l) {
			old = append(old, l)
		} else {
			queues = append(queues, l)
		}
	}
	i.untidy = i.untidy || old != nil
	p.lanes = queues
	errs := []error{p.drain(old), p.keeper.takeOver(i, p.lanes)}
	for _, l := range old {
		errs = append(errs, l.close())
	}
	p.publish()
	return errors.Join(append(errs, i.ns.Close())...)
}

// Down disarms, answers what waits, takes the hook out and closes. What is to be
// dropped is dropped by its verdict from now on, and not by the hook. In a netns
// without processes it does not wait for packets on their way to the queues.
func (p *parts) Down(deserted bool) error {
	p.setSettle(hook.Settle{})
	disarm := p.handle.Disarm
	if deserted {
		disarm = p.handle.DisarmEnded
	}
	err := disarm()
	fault.At(fault.Disarmed)
	if err == nil {
		err = p.drain(p.lanes)
	}
	fault.At(fault.Drained)
	return errors.Join(err, p.Remove())
}

// DownUnused takes down what was inherited and never brought up; h takes out the
// hook that is there.
func (p *parts) DownUnused(h hook.Hook) error {
	if err := p.openHook(h); err != nil {
		return errors.Join(err, p.Remove())
	}
	return p.Down(false)
}

// Suspend ends inspection before this process ends, where nobody keeps the
// descriptors. A netns whose packets may not pass uninspected stays armed, where
// the hook outlives the process; it returns whether that is so.
func (p *parts) Suspend() (armed bool, err error) {
	if p.selector.Bypass || !p.hook.Persistent() {
		return false, p.Down(false)
	}
	return true, errors.Join(p.closeLanes(), p.handle.Close())
}

// drain returns when every packet that has come to the lanes has its verdict
// and is through. Nothing may come any more.
func (p *parts) drain(lanes []*lane) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(drainLimit)
	for _, l := range lanes {
		for ; ; <-poll.C {
			stat, bound, err := l.queue.Stat(p.ns)
			if err != nil {
				return err
			}
			if !bound || (stat.Waiting == 0 && !l.reader.Busy()) {
				break
			}
			if !time.Now().After(deadline) {
				continue
			}
			if err := l.queue.AnswerAll(stat.Sequence, p.selector.Bypass); err != nil {
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
func (p *parts) Remove() error {
	p.setSettle(hook.Settle{})
	errs := []error{p.keeper.letGo()}
	fault.At(fault.LetGo)
	if p.handle != nil {
		errs = append(errs, p.handle.Delete())
		p.factory.closeLater(p.handle.Close)
	}
	fault.At(fault.HookRemoved)
	for _, l := range p.lanes {
		errs = append(errs, l.end())
		p.factory.closeLater(l.queue.Close)
	}
	return errors.Join(append(errs, p.ns.Close())...)
}

// closeLanes closes the queues and lets go of the netns.
func (p *parts) closeLanes() error {
	var errs []error
	for _, l := range p.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(append(errs, p.ns.Close())...)
}

// Close closes what somebody else keeps, and changes nothing in the kernel.
func (p *parts) Close() error {
	errs := []error{p.ns.Close()}
	for _, l := range p.lanes {
		errs = append(errs, l.queue.Close())
	}
	if p.handle != nil {
		errs = append(errs, p.handle.Close())
	}
	return errors.Join(errs...)
}

// Netns returns the netns, which is closed with the datapath.
func (p *parts) Netns() *netns.NetNS { return p.ns }

// Hook returns the kind of the hook that is armed.
func (p *parts) Hook() hook.Kind { return p.hook.Kind() }

// Bypass reports whether packets that cannot be inspected pass.
func (p *parts) Bypass() bool { return p.selector.Bypass }

// Warning tells of another program in the netns that holds what is ours, though
// the hook is armed in spite of it; nil where there is none.
func (p *parts) Warning() error { return p.warning }

// InterfaceIndex returns the index of the interface with a name.
func (p *parts) InterfaceIndex(name string) (uint32, error) {
	return p.lanes[0].queue.InterfaceIndex(name)
}

// HasInterface fails with ENODEV where the netns has no interface of an index.
func (p *parts) HasInterface(index uint32) error { return p.lanes[0].queue.HasInterface(index) }
