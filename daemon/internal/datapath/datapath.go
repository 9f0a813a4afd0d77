// SPDX-License-Identifier: Apache-2.0

// Package datapath is what one network namespace has in the kernel: queues with
// their readers, the hook, and descriptors of both in a store that outlives this
// process. Who wants the packets inspected, and why, it does not know.
//
// A [Factory] has what all netns of a node share, and is safe for concurrent use.
// A [Datapath] is not, but for Counters: its owner locks it. Different datapaths may
// be used at the same time.
package datapath

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/reject"
)

// DrainLimit is how long Down waits for the verdicts of packets that wait already;
// what is left then gets the policy's verdict.
const DrainLimit = 200 * time.Millisecond

// Datapath is what one netns has in the kernel. [Factory.New] or [Factory.Inherit]
// makes one, Up brings it up. Down, Suspend, Remove and Close each end it; nothing
// may be called then but Counters.
type Datapath struct {
	factory  *Factory
	ns       *netns.NetNS
	queues   []*queueReader
	hook     hook.Hook
	handle   hook.Handle // nil until Up
	selector hook.Selector
	warning  error       // of the last Arm
	settle   hook.Settle // by which the readers ask
	// settlesNot says that settling has ended for good, or the hook cannot do it.
	settlesNot bool
	stored     storedFDs
	// inherited is what an earlier process left, nil once all of it is taken over.
	inherited *Inherited
	life      *life // nil until there is a label
	needs     Needs // of the label; CopyRange and SocketUID are what the queues do
	traffic   trafficWatch
	counters  readerCounters
	rejects   *reject.Sender
	programs  []*programPath
	// binders are the ports that had bound queues of programs at the latest Verify, and to
	// which no packets went.
	binders []uint32
}

// New prepares a netns and touches nothing in it.
func (f *Factory) New(ns *netns.NetNS, s hook.Selector) (*Datapath, error) {
	clone, err := ns.Clone()
	if err != nil {
		return nil, err
	}
	return &Datapath{
		factory: f, ns: clone, selector: s, rejects: reject.NewSender(clone, &f.untold),
		stored: newStoredFDs(f.options.Store, ns.ID().Cookie, !s.Bypass),
	}, nil
}

// Inherit has the queues of a netns read that an earlier process left bound, each
// by its socket. Where orphaned, that process did not end in order: its
// orphans get the policy's verdict, and Inherit returns how many they were. It asks for
// the programs that are to read the netns once it has told of the label.
// Where a queue cannot be read, it says so, and Up tries again; the datapath is nil
// only where nothing was done.
func (f *Factory) Inherit(
	i *Inherited, s hook.Selector, label *inspect.Attachment,
	programs func() []LeftProgram, orphaned bool,
) (d *Datapath, orphans int, err error) {
	if d, err = f.New(i.ns, s); err != nil {
		return nil, 0, err
	}
	d.inherited = i
	d.Begin(label)
	for _, p := range programs() {
		d.AddProgram(p.Program, p.Open)
	}
	errs := []error{d.inheritPrograms()}
	for _, number := range slices.Sorted(maps.Keys(i.queues)) {
		n, err := d.inheritQueue(number, orphaned)
		orphans += n
		errs = append(errs, err)
	}
	d.countReaders()
	return d, orphans, errors.Join(errs...)
}

// Up makes of what there is already all that there is to be: the readers know the
// pod by label, or by the one that Inherit was given. It reads first and arms then, so
// that no packet finds a queue without a reader. Where it fails, what was done stays,
// for another try or for Remove.
func (d *Datapath) Up(h hook.Hook, s hook.Selector, label *inspect.Attachment) error {
	d.Begin(label)
	if err := d.openQueues(); err != nil {
		return err
	}
	if err := d.openHook(h); err != nil {
		return err
	}
	if d.factory.options.Store.Revoked() {
		return fdstore.ErrRevoked
	}
	if err := d.arm(s); err != nil {
		return err
	}
	fault.At(fault.Armed)
	if err := d.setFailOpen(s.Bypass); err != nil {
		return err
	}
	return d.takeOver()
}

// openQueues has the queues read that are to be and are not read yet.
func (d *Datapath) openQueues() error {
	for i := range d.selector.Count() {
		number := d.selector.Queue + uint16(i)
		is := func(q *queueReader) bool { return q.number() == number }
		if slices.ContainsFunc(d.queues, is) {
			continue
		}
		if err := d.openQueue(number); err != nil {
			return err
		}
	}
	d.countReaders()
	return nil
}

// openQueue binds a queue and has it read.
func (d *Datapath) openQueue(number uint16) error {
	queue, err := nfqueue.Open(d.ns, d.queueConfig(number))
	if err != nil {
		return err
	}
	fault.At(fault.QueueOpened)
	q := d.factory.queueReader(queue)
	store := func() error { return d.stored.add(fdstore.Queue, queue.File()) }
	if err := q.open(store, d.readerOptions(), d.life); err != nil {
		return err
	}
	d.queues = append(d.queues, q)
	return nil
}

// inheritQueue has a queue read that an earlier process bound. Its orphans, the
// packets that it had read but not answered, get the policy's verdict first; it
// returns how many they were.
func (d *Datapath) inheritQueue(number uint16, orphaned bool) (orphans int, err error) {
	socket := d.inherited.takeQueue(number)
	queue, err := nfqueue.OpenInherited(socket, d.queueConfig(number))
	if err != nil {
		return 0, errors.Join(err, socket.Close())
	}
	q := d.factory.queueReader(queue)
	if orphaned && !d.factory.options.Store.Revoked() { // else another daemon has them in its hands
		orphans, err = queue.AnswerOrphans(d.ns, d.selector.Bypass)
	}
	err = errors.Join(err, q.buffers.add(queue), q.read(d.readerOptions(), d.life))
	if err != nil {
		return orphans, errors.Join(err, q.close())
	}
	q.inherited = true
	d.queues = append(d.queues, q)
	return orphans, nil
}

// readerOptions is what one more reader of the netns works with.
func (d *Datapath) readerOptions() nfqueue.ReaderOptions {
	o := d.factory.readerOptions(d.life)
	o.Rejecter, o.Away = d.rejects, d.away()
	return o
}

// closeNetns ends what is done in the netns, in which nothing is read any more.
func (d *Datapath) closeNetns() error { return errors.Join(d.rejects.Close(), d.ns.Close()) }

// queueConfig is how a queue of the netns is bound.
func (d *Datapath) queueConfig(number uint16) nfqueue.Config {
	c := d.factory.options.Queue
	c.Number, c.FailOpen = number, d.selector.Bypass
	c.CopyRange, c.SocketUID = d.needs.CopyRange, d.needs.SocketUID
	return c
}

// openHook prepares the hook, unless it is prepared, by the socket that kept it
// until now where there is one.
func (d *Datapath) openHook(h hook.Hook) error {
	if d.handle != nil {
		return nil
	}
	table := d.inherited.takeTable()
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
		d.stored.note(fdstore.Table, f)
		return nil
	}
	if err := d.stored.add(fdstore.Table, f); err != nil {
		return err
	}
	fault.At(fault.HookKept)
	return nil
}

// arm arms the selector. A hook that cannot settle flows queues them all. The
// readers learn that settling goes off before the hook does, and that it is on
// after: a request that nothing understands would let a packet pass.
func (d *Datapath) arm(s hook.Selector) error {
	if d.settlesNot || !d.needs.Settles {
		s.Settle = hook.Settle{}
	}
	armed, before := d.armed(s), d.settle
	if armed.Settle != before || s.Directions != d.selector.Directions {
		d.setSettle(hook.Settle{})
	}
	warning, err := d.handle.Arm(armed)
	if armed.Settle.On() && errors.Is(err, hook.ErrNotSupported) {
		d.settlesNot = true
		s.Settle, armed.Settle = hook.Settle{}, hook.Settle{}
		warning, err = d.handle.Arm(armed)
	}
	if err != nil {
		d.setSettle(before)
		return err
	}
	s.KeepSettled = false // what was settled before is taken over
	d.selector, d.warning = s, warning
	d.setSettle(armed.Settle)
	return nil
}

// setSettle tells the readers how to ask. None asks otherwise after its return.
func (d *Datapath) setSettle(s hook.Settle) {
	d.settle = s
	for _, q := range d.queues {
		q.setSettle(s)
	}
}

// Rearm has flows settled by another setting. With another generation, the kernel looks
// at all settled flows again. It does nothing where they are settled so, or not at all.
func (d *Datapath) Rearm(settle hook.Settle) error {
	s := d.selector
	if d.settlesNot || !d.needs.Settles {
		settle = hook.Settle{}
	}
	if s.Settle == settle {
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
	d.setAway() // of programs that are away, the policy decides
	errs := []error{d.stored.setStrict(!open), d.setProgramRoom()}
	for _, q := range d.queues {
		errs = append(errs, q.setFailOpen(open))
	}
	return errors.Join(errs...)
}

// takeOver closes queues of an earlier configuration, to which nothing comes any
// more, and tells the store what is stored from now on.
func (d *Datapath) takeOver() error {
	i := d.inherited
	if i == nil {
		return nil
	}
	d.inherited = nil
	var old []*queueReader
	old, d.queues = d.partition()
	files := make([]*os.File, len(d.queues))
	for n, q := range d.queues {
		files[n] = q.queue.File()
	}
	errs := []error{
		d.drain(old), d.stored.takeOver(files, i.names, !i.untidy && old == nil),
	}
	for _, q := range old {
		errs = append(errs, q.close())
	}
	d.countReaders()
	return errors.Join(append(errs, i.ns.Close())...)
}

// partition divides the queues into those to which the selector sends nothing, and
// the others.
func (d *Datapath) partition() (old, queues []*queueReader) {
	first, count := d.selector.Queue, d.selector.Count()
	for _, q := range d.queues {
		if q.number() < first || int(q.number()-first) >= count {
			old = append(old, q)
		} else {
			queues = append(queues, q)
		}
	}
	return old, queues
}

// drain returns when every packet that has come to the queues has its verdict and
// is through. Nothing may come any more.
func (d *Datapath) drain(queues []*queueReader) error {
	deadline := time.Now().Add(DrainLimit)
	for _, q := range queues {
		if err := q.drain(d.ns, deadline, d.selector.Bypass); err != nil {
			return err
		}
	}
	return nil
}

// countReaders makes the readers' counters visible.
func (d *Datapath) countReaders() {
	readers := make([]*nfqueue.Reader, len(d.queues))
	for i, q := range d.queues {
		readers[i] = q.reader
	}
	d.counters.setReaders(readers)
}

// Counters adds up what the readers have counted, also those of queues that are
// closed. It may be called at any time.
func (d *Datapath) Counters() Counters { return d.counters.sum() }

// TakePanic returns what a panic said since it was asked last, empty for none.
func (d *Datapath) TakePanic() string {
	said := ""
	for _, q := range d.queues {
		said = cmp.Or(q.reader.TakePanic(), said)
	}
	return said
}

// Netns returns the netns, which is closed with the datapath.
func (d *Datapath) Netns() *netns.NetNS { return d.ns }

// Hook returns the kind of the hook that is armed.
func (d *Datapath) Hook() hook.Kind { return d.hook.Kind() }

// HookCounters returns what the hook did.
func (d *Datapath) HookCounters() (hook.Counters, error) { return d.handle.Counters() }

// Bypass reports whether packets that cannot be inspected pass.
func (d *Datapath) Bypass() bool { return d.selector.Bypass }

// Warning tells of another program in the netns that holds what the hook would
// have taken, though the hook is armed; nil where there is none.
func (d *Datapath) Warning() error { return d.warning }

// InterfaceIndex returns the index of the interface with a name.
func (d *Datapath) InterfaceIndex(name string) (uint32, error) {
	return d.queues[0].queue.InterfaceIndex(name)
}

// HasInterface fails with ENODEV where the netns has no interface of an index.
func (d *Datapath) HasInterface(index uint32) error { return d.queues[0].queue.HasInterface(index) }
