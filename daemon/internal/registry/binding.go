// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"log/slog"
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

	// reader is for counters, which are read without the lock.
	reader atomic.Pointer[nfqueue.Reader]
}

// parts are what a binding holds in the kernel while it is up.
type parts struct {
	ns         *netns.NetNS
	queue      *nfqueue.Queue
	hook       hook.Hook
	handle     hook.Handle
	selector   hook.Selector
	readerDone chan struct{} // closed when the reader has stopped
	readerErr  error         // why, valid from then on
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
	ignore := b.policy() == api.Ignore
	p := &parts{selector: hook.Selector{
		Queue: r.options.Queue.Number, Bypass: ignore,
		Directions: r.options.Directions, Protocols: r.options.Protocols,
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.discard())
		}
	}()
	if p.ns, err = ns.Clone(); err != nil {
		return err
	}
	config := r.options.Queue
	config.FailOpen = ignore
	if p.queue, err = nfqueue.Open(p.ns, config); err != nil {
		return err
	}
	if err = p.queue.Bind(); err != nil {
		return err
	}
	b.startReader(r, a, p, ignore)
	p.hook = r.currentHook()
	if p.handle, err = p.hook.Open(p.ns); err != nil {
		return err
	}
	if err = p.handle.Arm(p.selector); err != nil {
		return err
	}
	b.parts = p
	return nil
}

func (b *binding) startReader(r *Registry, a *attachment, p *parts, failOpen bool) {
	rec := &a.record
	reader := nfqueue.NewReader(p.queue, failOpen, nfqueue.ReaderOptions{
		Inspector: r.options.Inspector,
		Attachment: &inspect.Attachment{
			ContainerID: rec.ContainerID, Ifname: rec.Ifname, Network: rec.Network,
			PodNamespace: rec.Pod.Namespace, PodName: rec.Pod.Name, PodUID: rec.Pod.UID,
		},
		MarkMask: r.options.MarkMask,
		Pool:     r.pool,
		Observer: r.hub.Observer,
	})
	b.reader.Store(reader)
	p.readerDone = make(chan struct{})
	log := r.log(rec)
	go func() {
		defer close(p.readerDone)
		if p.readerErr = reader.Run(); p.readerErr != nil {
			log.Error("reader stopped", slog.Any("error", p.readerErr))
		}
	}()
}

// applyPolicy makes the kernel follow the members' policy. A stricter one is
// in force before it returns; the hook goes first, for it fails as a whole.
func (b *binding) applyPolicy() error {
	ignore := b.policy() == api.Ignore
	p := b.parts
	s := p.selector
	s.Bypass = ignore
	if err := p.handle.Arm(s); err != nil {
		return err
	}
	p.selector = s
	b.reader.Load().SetFailOpen(ignore)
	return p.queue.SetFailOpen(ignore)
}

// down ends inspection without losing a packet: disarm, answer what waits,
// take the hook out, close.
func (b *binding) down() error {
	p := b.parts
	b.parts = nil
	err := p.handle.Disarm()
	if err == nil {
		err = p.drain(b.reader.Load())
	}
	return errors.Join(err, p.discard())
}

// drain returns when every packet that met the hook has its verdict and is
// through. The hook must be disarmed.
func (p *parts) drain(reader *nfqueue.Reader) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(drainLimit); ; <-poll.C {
		stat, bound, err := p.queue.Stat(p.ns)
		if err != nil || !bound || (stat.Waiting == 0 && !reader.Busy()) {
			return err
		}
		if time.Now().After(deadline) {
			return p.queue.AnswerAll(stat.Sequence, p.selector.Bypass)
		}
	}
}

// discard takes out and closes whatever there is.
func (p *parts) discard() error {
	var errs []error
	if p.handle != nil {
		errs = append(errs, p.handle.Remove())
	}
	return errors.Join(append(errs, p.closeQueue())...)
}

// closeQueue closes the queue, waits for its reader and lets go of the netns.
func (p *parts) closeQueue() error {
	var errs []error
	if p.queue != nil {
		errs = append(errs, p.queue.Close())
	}
	if p.readerDone != nil {
		<-p.readerDone
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
	select {
	case <-p.readerDone:
		return fmt.Errorf("reader stopped: %w", p.readerErr)
	default:
	}
	_, bound, err := p.queue.Stat(p.ns)
	if err != nil {
		return err
	}
	if !bound {
		return fmt.Errorf("queue %d is not bound", p.selector.Queue)
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
	return true, errors.Join(p.closeQueue(), p.handle.Close())
}

func (b *binding) counters() api.Counters {
	reader := b.reader.Load()
	if reader == nil {
		return api.Counters{}
	}
	c := &reader.Counters
	return api.Counters{
		Packets: c.Packets.Load(), Bytes: c.Bytes.Load(),
		Accepted: c.Accepted.Load(), Dropped: c.Dropped.Load(), Queued: c.Queued.Load(),
		Malformed: c.Malformed.Load(), Panics: c.Panics.Load(), Errors: c.Errors.Load(),
	}
}
