// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// binding is the queue, its reader and the hook of one netns, shared by the
// attachments whose interfaces are in it.
type binding struct {
	cookie uint64
	users  int // guarded by the registry's mu

	mu      sync.Mutex // guards what follows; see Registry for the order
	members map[api.Key]api.Policy
	parts   *datapath.Datapath // nil while nobody is attached
	// inherited is what an earlier daemon left, with its queues being read
	// already; nil once an attachment has it.
	inherited  *datapath.Datapath
	noticed    noticed
	complaints complaints

	// tally is for counters, which are read without the lock.
	tally atomic.Pointer[tally]
	// carried is what of them the registry has counted among those of bindings
	// that are gone; guarded by the registry's mu.
	carried api.Counters
	// sample is how full the queues were when they were verified last.
	sample atomic.Pointer[datapath.Sample]
	// problem is why packets are not inspected as they should be, nil for
	// nothing.
	problem atomic.Pointer[string]
	// past is the text about traffic that goes past the hook, nil while there is none.
	past atomic.Pointer[string]
	// inspector is what was wrong with the inspector of late, nil for nothing.
	inspector atomic.Pointer[string]
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
		r.carry(b)
	}
}

// join adds a member, and brings the binding up for the first one.
func (r *Registry) join(b *binding, a *attachment, ns *netns.NetNS) error {
	b.members[a.record.Key] = a.record.FailurePolicy
	var err error
	if b.parts == nil {
		err = r.up(b, a, ns)
	} else {
		err = b.applyPolicy()
	}
	if err != nil {
		delete(b.members, a.record.Key)
	}
	return err
}

// link returns the index of a new attachment's interface; 0 where there is none
// of its name. By the time of a restart, another one may have the name.
func (b *binding) link(a *attachment) uint32 {
	if a.restored {
		return a.record.Link
	}
	index, err := b.parts.InterfaceIndex(a.record.Ifname)
	if err != nil {
		return 0
	}
	return index
}

// part removes a member, and takes the binding down after the last one.
// Nothing waits in a deserted netns for what is under way.
func (b *binding) part(key api.Key, deserted bool) error {
	delete(b.members, key)
	switch {
	case b.parts == nil:
		return nil
	case len(b.members) > 0:
		return b.applyPolicy()
	}
	return b.down(deserted)
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

// up brings the binding up. Where it fails, nothing is left but what was
// inherited.
func (r *Registry) up(b *binding, a *attachment, ns *netns.NetNS) error {
	p, s := b.inherited, r.selector(b.policy())
	if p == nil {
		var err error
		if p, err = r.datapaths.New(ns, s); err != nil {
			return err
		}
	}
	if err := p.Up(r.currentHook(), s, whose(&a.record)); err != nil {
		if p != b.inherited {
			err = errors.Join(err, p.Remove())
		}
		return err
	}
	if p == b.inherited {
		r.mu.Lock()
		r.release(b) // the use of who inherited; the attachment has its own
		r.mu.Unlock()
	}
	b.parts, b.inherited = p, nil
	b.publish(p)
	return nil
}

// current are the parts there are, nil for none. The caller holds b.mu.
func (b *binding) current() *datapath.Datapath {
	if b.parts != nil {
		return b.parts
	}
	return b.inherited
}

// renounce takes down what was inherited and is wanted by nobody any more.
func (r *Registry) renounce(b *binding) error {
	b.mu.Lock()
	p := b.inherited
	b.inherited = nil
	b.mu.Unlock()
	if p == nil {
		return nil
	}
	r.mu.Lock()
	r.release(b)
	r.mu.Unlock()
	defer func() { // what was read meanwhile
		r.mu.Lock()
		defer r.mu.Unlock()
		if b.users == 0 {
			r.carry(b)
		}
	}()
	return p.DownUnused(r.currentHook())
}

// applyPolicy makes the kernel follow the members' policy.
func (b *binding) applyPolicy() error { return b.parts.SetPolicy(b.policy() == api.Ignore) }

// down ends inspection, without losing a packet unless the netns is deserted.
func (b *binding) down(deserted bool) error {
	p := b.parts
	b.parts = nil
	b.problem.Store(nil)
	b.past.Store(nil)
	b.inspector.Store(nil)
	b.sample.Store(nil)
	return p.Down(deserted)
}

// eachBinding calls fn for all bindings there are, without the registry's lock.
func (r *Registry) eachBinding(fn func(*binding)) {
	r.mu.Lock()
	bindings := make([]*binding, 0, len(r.bindings))
	for _, b := range r.bindings {
		bindings = append(bindings, b)
	}
	r.mu.Unlock()
	for _, b := range bindings {
		fn(b)
	}
}

// suspend is what an orderly exit does where nobody keeps the descriptors. A
// pod that may not go uninspected stays armed, where the hook outlives us; it
// returns whether it did.
func (b *binding) suspend() (stillArmed bool, err error) {
	p := b.parts
	if p == nil {
		return false, nil
	}
	b.parts = nil
	return p.Suspend()
}

// netns returns a handle on the binding's netns, nil where it has none any more.
func (b *binding) netns() (*netns.NetNS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return nil, nil
	}
	return b.parts.Netns().Clone()
}

// check compares the kernel with what should be. Its error says what is wrong.
func (b *binding) check() error {
	if b.parts == nil {
		return errors.New("is not up")
	}
	return b.parts.Check()
}
