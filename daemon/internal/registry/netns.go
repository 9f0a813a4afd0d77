// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/datapath"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// podNetns is one netns, shared by the attachments whose interfaces are in it.
type podNetns struct {
	cookie uint64
	// users and closed are guarded by the registry's mu. closed is what of the
	// counters the registry has counted among those of netns that are gone.
	users  int
	closed api.Counters

	mu sync.Mutex // held where there is a lockedNetns, which what follows needs

	members  map[api.Key]api.Policy
	datapath *datapath.Datapath // nil while nothing is attached
	// inherited is what an earlier daemon left, with its queues being read
	// already; nil once an attachment has it.
	inherited *datapath.Datapath
	// settled is by what flows are settled, or are to be.
	settled    state.Settled
	reported   reported
	complaints complaints

	// What follows is read without the lock.

	// label is as which the inspector knows the netns, nil before it does. It may be
	// that of a datapath that is gone.
	label atomic.Pointer[inspect.Attachment]
	// counted is where packets are counted.
	counted atomic.Pointer[counted]
	// sample is how full the queues were when they were verified last.
	sample atomic.Pointer[datapath.Sample]
	// problem is why packets are not inspected as they should be, nil for
	// nothing.
	problem atomic.Pointer[string]
	// past is the text about traffic that goes past the hook, nil while there is none.
	past atomic.Pointer[string]
	// inspector is what was wrong with the inspector of late, nil for nothing.
	inspector atomic.Pointer[string]
	// programs are those that run in the netns, nil for none. The list is not changed.
	programs atomic.Pointer[[]*podProgram]
}

// reported is what was reported last of another program in the netns that is in our
// way or reads a queue, and of a queue that is full.
type reported struct {
	warning string
	foreign bool
	flushed uint64
	full    bool
}

// lockedNetns is a netns whose lock is held until unlock. What needs the lock is a
// method of it, or takes one.
type lockedNetns struct{ *podNetns }

func newPodNetns(cookie uint64) *podNetns {
	return &podNetns{cookie: cookie, members: make(map[api.Key]api.Policy)}
}

func (n *podNetns) lock() lockedNetns {
	n.mu.Lock()
	return lockedNetns{n}
}

func (n lockedNetns) unlock() { n.mu.Unlock() }

// policy is the strictest of the members'.
func (n lockedNetns) policy() api.Policy {
	for _, p := range n.members {
		if p == api.Fail {
			return api.Fail
		}
	}
	return api.Ignore
}

// applyPolicy makes the kernel follow the members' policy.
func (n lockedNetns) applyPolicy() error {
	return n.datapath.SetPolicy(n.policy() == api.Ignore)
}

// detach removes a member, and ends inspection after the last one. Nothing waits in
// a deserted netns for what is under way. It returns programs that were told to end.
func (n lockedNetns) detach(key api.Key, deserted bool) (stopped []*podProgram, err error) {
	delete(n.members, key)
	switch {
	case n.datapath == nil:
		return nil, nil
	case len(n.members) > 0:
		return nil, n.applyPolicy()
	}
	d, running := n.takeDatapath(), n.takePrograms()
	err = d.Down(deserted)
	n.stop(running)
	return running, err
}

// suspend is what an orderly exit does where no store has the descriptors. A
// pod that may not go uninspected stays armed, where the hook outlives us; it
// returns whether it did.
func (n lockedNetns) suspend() (armed bool, err error) {
	if n.datapath == nil {
		return false, nil
	}
	d, running := n.takeDatapath(), n.takePrograms()
	armed, err = d.Suspend()
	n.stop(running)
	return armed, err
}

// takeDatapath returns the datapath, which the netns no longer has.
func (n lockedNetns) takeDatapath() *datapath.Datapath {
	d := n.datapath
	n.datapath = nil
	n.problem.Store(nil)
	n.past.Store(nil)
	n.inspector.Store(nil)
	n.sample.Store(nil)
	return d
}

// current is the datapath there is, nil for none.
func (n lockedNetns) current() *datapath.Datapath {
	if n.datapath != nil {
		return n.datapath
	}
	return n.inherited
}

// findFault compares the kernel with what should be. Its error says what is wrong.
func (n lockedNetns) findFault() error {
	if n.datapath == nil {
		return errors.New("its queues and hook are not open")
	}
	return n.datapath.FindFault()
}

// interfaces returns the names of the members' interfaces, each once.
func (n lockedNetns) interfaces() []string {
	names := make([]string, 0, 1)
	for key := range n.members {
		if !slices.Contains(names, key.Ifname) {
			names = append(names, key.Ifname)
		}
	}
	return names
}

// outcome is what happens to packets that the inspector does not decide about.
func (n lockedNetns) outcome() string {
	if n.datapath.Bypass() {
		return "accepted uninspected"
	}
	return "dropped"
}

// open returns a handle on the netns, nil where nothing is attached any more.
func (n *podNetns) open() (*netns.NetNS, error) {
	locked := n.lock()
	defer locked.unlock()
	if locked.datapath == nil {
		return nil, nil
	}
	return locked.datapath.Netns().Clone()
}

// full reports whether no packet had room when the queues were verified last.
func (n *podNetns) full() bool {
	s := n.sample.Load()
	return s != nil && s.Length > 0 && s.Waiting >= s.Length
}

// counted is where a netns' packets are counted. It is replaced as a whole.
type counted struct {
	datapath *datapath.Datapath
	before   api.Counters // of the datapaths before
}

// count makes the counters of d visible. Those of the datapaths before are not lost.
func (n lockedNetns) count(d *datapath.Datapath) {
	next := &counted{datapath: d}
	if last := n.counted.Load(); last != nil {
		if last.datapath == d {
			return
		}
		next.before = last.sum()
	}
	n.counted.Store(next)
}

func (n *podNetns) counters() api.Counters {
	c := n.counted.Load()
	if c == nil {
		return api.Counters{}
	}
	return c.sum()
}

func (c *counted) sum() api.Counters {
	sum := c.before
	sum.Add(api.Counters(c.datapath.Counters()))
	return sum
}
