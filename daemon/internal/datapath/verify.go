// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// Findings are what a verification has found.
type Findings struct {
	// Fault is what differs from what should be, nil for nothing.
	Fault error
	// ForeignReader: another program reads a queue in the netns. Packets that wait
	// there can skip the hook, by chains that their program moves meanwhile.
	ForeignReader bool
	// SettlingEnded: for that, no flow is settled there from now on.
	SettlingEnded bool
}

// Verify compares the netns with what should be, and ends settling where it can be
// misused. at is the netns, or the stop of a [netns.Tour] there.
func (d *Datapath) Verify(at netns.Place) Findings {
	stats, err := d.verifyQueues(at)
	if err != nil {
		return Findings{Fault: err}
	}
	found := Findings{ForeignReader: d.strangers(stats) > 0}
	if found.ForeignReader {
		found.SettlingEnded, found.Fault = d.endMisusedSettling()
	}
	if found.Fault == nil {
		found.Fault = d.handle.Verify(at, d.armed(d.selector))
	}
	return found
}

// strangers returns how many queues others than we and our programs read. Who has bound a
// program's queue is found out beside: that is the program where packets go to it by the
// next time, and another socket where it was ended meanwhile.
func (d *Datapath) strangers(stats []nfqueue.Stat) int {
	n, before := len(stats)-len(d.queues), d.binders
	d.binders = nil
	for i := range stats {
		p, port := d.programOf(stats[i].Number), stats[i].PortID
		if p == nil {
			continue
		}
		if !p.holds(&stats[i]) {
			d.binders = append(d.binders, port)
			if slices.Contains(before, port) {
				continue
			}
		}
		n--
	}
	return n
}

// FindFault compares the netns with what should be, and changes nothing. Its error
// says what differs.
func (d *Datapath) FindFault() error {
	if _, err := d.verifyQueues(d.ns); err != nil {
		return err
	}
	return d.handle.Verify(d.ns, d.armed(d.selector))
}

// verifyQueues says what is wrong with the queues and their readers. It returns
// all queues that are bound in the netns, by whomever.
func (d *Datapath) verifyQueues(at netns.Place) ([]nfqueue.Stat, error) {
	stats, err := nfqueue.Stats(at)
	if err != nil {
		return nil, err
	}
	for _, q := range d.queues {
		if err := q.verify(stats); err != nil {
			return nil, err
		}
	}
	return stats, nil
}

// endMisusedSettling ends settling beside another reader, and reports whether it did: by
// the verdict of its own packet, and chains that it moves meanwhile, a pod with
// CAP_NET_ADMIN can put a request to settle behind our queue. The module sees whose
// verdict it is, nftables does not.
func (d *Datapath) endMisusedSettling() (ended bool, err error) {
	if !d.selector.Settle.On() || d.hook.Kind() != hook.NFTables {
		return false, nil
	}
	s := d.selector
	s.Settle = hook.Settle{}
	err = d.arm(s)
	d.settlesNot = err == nil
	return err == nil, err
}

// Repair puts right what Verify may have found.
func (d *Datapath) Repair(at netns.Place) error {
	for _, q := range d.queues {
		if err := q.repair(at); err != nil {
			return err
		}
	}
	if d.handle.Verify(at, d.armed(d.selector)) == nil {
		return nil
	}
	if d.arm(d.selector) == nil && d.handle.Verify(at, d.armed(d.selector)) == nil {
		return nil
	}
	return d.reopenHook()
}

// reopenHook opens another handle where the hook cannot be armed by its handle.
func (d *Datapath) reopenHook() error {
	handle, err := d.hook.Open(d.ns, nil)
	if err != nil {
		return err
	}
	d.setSettle(hook.Settle{})
	old := d.handle
	d.handle = handle
	return errors.Join(old.Close(), d.stored.replaceTable(handle.File()), d.arm(d.selector))
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
	armed := d.armed(d.selector)
	warning, err := handle.Arm(armed)
	if err != nil {
		return false, errors.Join(err, handle.Remove(), handle.Close())
	}
	old := d.handle
	d.hook, d.handle, d.warning = h, handle, warning
	d.setSettle(armed.Settle)
	return true, errors.Join(old.Close(), d.stored.replaceTable(handle.File()))
}

// CompareTraffic looks whether traffic, of the pod's interfaces, meets the hook.
func (d *Datapath) CompareTraffic(at netns.Place, traffic netns.Traffic) (Comparison, error) {
	from := trafficSource{read: d.Counters().Packets, hook: d.handle.Counters}
	if !selectsAll(&d.selector) {
		from.sent = func() (uint64, error) { return netns.Sent(at) }
	}
	return d.traffic.compare(traffic, from)
}

// SampleQueues returns what the latest Verify or FindFault has heard from the kernel.
func (d *Datapath) SampleQueues() Sample {
	var s Sample
	for _, q := range d.queues {
		q.sample(&s)
	}
	return s
}

// QueueStates asks the kernel for the queues.
func (d *Datapath) QueueStates() ([]QueueState, error) {
	stats, err := nfqueue.Stats(d.ns)
	if err != nil {
		return nil, err
	}
	states := make([]QueueState, len(d.queues))
	for i, q := range d.queues {
		if states[i], err = q.state(stats); err != nil {
			return nil, err
		}
	}
	return states, nil
}
