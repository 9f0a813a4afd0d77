// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
)

// drainLimit is how long detaching waits for the verdicts of packets that wait
// already; what is left then gets the policy's verdict.
const drainLimit = 200 * time.Millisecond

// binding is the queue, its reader and the hook of one netns, shared by the
// attachments whose interfaces are in it.
type binding struct {
	cookie uint64
	users  int // guarded by the registry's mu

	mu      sync.Mutex // guards what follows; see Registry for the order
	members map[api.Key]api.Policy
	parts   *parts // nil while nobody is attached

	// readers are for counters, which are read without the lock.
	readers atomic.Pointer[[]*nfqueue.Reader]
}

// parts are what a binding holds in the kernel while it is up.
type parts struct {
	ns       *netns.NetNS
	lanes    []*lane
	hook     hook.Hook
	handle   hook.Handle
	selector hook.Selector
}

// acquire returns the binding of a netns. The caller holds r.mu.
func (r *Registry) acquire(cookie uint64) *binding {
	b := r.bindings[cookie]
	if b == nil {
		b = &binding{cookie: cookie, members: make(map[api.Key]api.Policy)}
		r.bindings[cookie] = b
	}
	b.users++
	return b
}

// release gives up a use. The caller holds r.mu.
func (r *Registry) release(b *binding) {
	if b.users--; b.users == 0 {
		delete(r.bindings, b.cookie)
	}
}

// join adds a member, and brings the binding up for the first one.
func (b *binding) join(r *Registry, a *attachment, ns *netns.NetNS) error {
	b.members[a.record.Key] = a.record.FailurePolicy
	var err error
	if b.parts == nil {
		err = b.up(r, a, ns)
	} else {
		err = b.applyPolicy()
	}
	if err != nil {
		delete(b.members, a.record.Key)
	}
	return err
}

// part removes a member, and takes the binding down after the last one.
func (b *binding) part(key api.Key) error {
	delete(b.members, key)
	switch {
	case b.parts == nil:
		return nil
	case len(b.members) > 0:
		return b.applyPolicy()
	}
	return b.down()
}

// policy is the strictest of the members'.
func (b *binding) policy() api.Policy {
	for _, p := range b.members {
		if p == api.Fail {
			return api.Fail
		}
	}
	return api.Ignore
}

// up reads first and arms then, so that no packet finds a queue without a
// reader. Where it fails, nothing is left.
func (b *binding) up(r *Registry, a *attachment, ns *netns.NetNS) (err error) {
	p := &parts{hook: r.currentHook(), selector: r.selector(b.policy())}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.discard())
		}
	}()
	if p.ns, err = ns.Clone(); err != nil {
		return err
	}
	if err = p.openLanes(r, a); err != nil {
		return err
	}
	b.publish(p)
	if p.handle, err = p.hook.Open(p.ns, nil); err != nil {
		return err
	}
	if err = p.arm(p.selector); err != nil {
		return err
	}
	b.parts = p
	return nil
}

// selector is what is armed under a policy.
func (r *Registry) selector(policy api.Policy) hook.Selector {
	return hook.Selector{
		Queue: r.options.Queue.Number, Queues: r.options.Queues,
		Bypass:     policy == api.Ignore,
		Directions: r.options.Directions, Protocols: r.options.Protocols,
		Settle: r.settleSetting(),
	}
}

func (p *parts) openLanes(r *Registry, a *attachment) error {
	rec := &a.record
	who := &inspect.Attachment{
		ContainerID: rec.ContainerID, Ifname: rec.Ifname, Network: rec.Network,
		PodNamespace: rec.Pod.Namespace, PodName: rec.Pod.Name, PodUID: rec.Pod.UID,
	}
	for i := range p.selector.Count() {
		config := r.options.Queue
		config.Number += uint16(i)
		config.FailOpen = p.selector.Bypass
		l, err := r.openLane(p.ns, config, who)
		if err != nil {
			return err
		}
		p.lanes = append(p.lanes, l)
	}
	return nil
}

// publish makes the readers' counters visible.
func (b *binding) publish(p *parts) {
	readers := make([]*nfqueue.Reader, len(p.lanes))
	for i, l := range p.lanes {
		readers[i] = l.reader
	}
	b.readers.Store(&readers)
}

// arm arms the selector. A hook that cannot settle flows queues them all. The
// readers learn that settling goes off before the hook does, and that it is on
// after: a request that nobody understands would let a packet pass.
func (p *parts) arm(s hook.Selector) error {
	if s.Settle != p.selector.Settle {
		p.setSettle(hook.Settle{})
	}
	err := p.handle.Arm(s)
	if s.Settle.On() && errors.Is(err, hook.ErrNotSupported) {
		s.Settle = hook.Settle{}
		err = p.handle.Arm(s)
	}
	if err != nil {
		p.setSettle(p.selector.Settle)
		return err
	}
	p.selector = s
	p.setSettle(s.Settle)
	return nil
}

func (p *parts) setSettle(s hook.Settle) {
	for _, l := range p.lanes {
		l.setSettle(s)
	}
}

// applyPolicy makes the kernel follow the members' policy. A stricter one is
// in force before it returns; the hook goes first, for it fails as a whole.
func (b *binding) applyPolicy() error {
	s := b.parts.selector
	s.Bypass = b.policy() == api.Ignore
	if err := b.parts.arm(s); err != nil {
		return err
	}
	var errs []error
	for _, l := range b.parts.lanes {
		errs = append(errs, l.setPolicy(s.Bypass))
	}
	return errors.Join(errs...)
}

// down ends inspection without losing a packet: disarm, answer what waits,
// take the hook out, close.
func (b *binding) down() error {
	p := b.parts
	b.parts = nil
	err := p.handle.Disarm()
	if err == nil {
		err = p.drain()
	}
	return errors.Join(err, p.discard())
}

// drain returns when every packet that met the hook has its verdict and is
// through. The hook must be disarmed.
func (p *parts) drain() error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(drainLimit)
	for _, l := range p.lanes {
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

// discard takes out and closes whatever there is.
func (p *parts) discard() error {
	var err error
	if p.handle != nil {
		err = p.handle.Remove()
	}
	return errors.Join(err, p.closeLanes())
}

// closeLanes closes the queues and lets go of the netns.
func (p *parts) closeLanes() error {
	var errs []error
	for _, l := range p.lanes {
		errs = append(errs, l.close())
	}
	if p.ns != nil {
		errs = append(errs, p.ns.Close())
	}
	return errors.Join(errs...)
}

// check compares the kernel with what should be. Its error says what is wrong.
func (b *binding) check() error {
	p := b.parts
	if p == nil {
		return errors.New("is not up")
	}
	for _, l := range p.lanes {
		if err := l.check(p.ns); err != nil {
			return err
		}
	}
	return p.handle.Check(p.selector)
}

// suspend is what an orderly exit does. A pod that may not go uninspected
// stays armed, where the hook outlives us; it returns whether it did.
func (b *binding) suspend() (stillArmed bool, err error) {
	p := b.parts
	if p == nil {
		return false, nil
	}
	if p.selector.Bypass || !p.hook.Persistent() {
		return false, b.down()
	}
	b.parts = nil
	return true, errors.Join(p.closeLanes(), p.handle.Close())
}

func (b *binding) counters() api.Counters {
	var sum api.Counters
	readers := b.readers.Load()
	if readers == nil {
		return sum
	}
	for _, reader := range *readers {
		c := &reader.Counters
		sum.Add(api.Counters{
			Packets: c.Packets.Load(), Bytes: c.Bytes.Load(),
			Accepted: c.Accepted.Load(), Dropped: c.Dropped.Load(), Queued: c.Queued.Load(),
			Settled: c.Settled.Load(), Malformed: c.Malformed.Load(), Panics: c.Panics.Load(),
			Overruns: c.Overruns.Load(), Errors: c.Errors.Load(),
		})
	}
	return sum
}
