// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

const defaultNodeMemory = 64 << 20

// Options are what an Inspector is made with.
type Options struct {
	// Rules are those to begin with. Nil: everything is accepted, see Required.
	Rules *Rules
	// Required says that the failure policies decide while Rules is nil.
	Required bool
	// Sink is told what happens to flows. Nil: nobody is.
	Sink Sink
	// NodeMemory is how many bytes the undecided flows of all pods may take, and
	// PodMemory those of one; 0: 64 MiB and 4 MiB.
	NodeMemory, PodMemory int
	// Flows is how many flows of a pod are remembered; 0: 65,536.
	Flows int
	// Idle is how long a decided flow without a packet is remembered where a pod has
	// many; 0: 10 minutes. It has to be longer than flows stay settled.
	Idle time.Duration
	// Resolvers are whose answers tell names of addresses. Nil: everybody's are.
	Resolvers []netip.Addr
	// Now is a clock that cannot be set. Nil: the time since New.
	Now func() time.Duration
}

// Inspector judges packets of pods by rules. Any number of goroutines may use it.
//
// Each pod has a lock of its own, which calls of Inspect for its packets take: one that
// took too long, and was replaced, may still be at work.
type Inspector struct {
	options Options
	node    *budget.Account
	buffers stream.Pool
	loaded  atomic.Pointer[loaded]
	counts  counts

	// coming are rules that are not in force yet. One replacement goes on at a time.
	coming    atomic.Pointer[loaded]
	replacing chan struct{}
	changes   chan inspect.Change
	followed  atomic.Bool // somebody receives changes

	mu   sync.RWMutex // guards what follows, and is taken before the lock of a pod
	pods map[*inspect.Attachment]*pod
	gone gone
	// labels are of pods by the container IDs of their sandboxes.
	labels map[string]*labels
	// refusals are of the pods that are there.
	refusals map[podName]*refusals
}

type counts struct {
	accepted, inspected           atomic.Uint64
	rejected, dropped             atomic.Uint64
	conflicts, subflows, replaced atomic.Uint64
}

var _ interface {
	inspect.BatchInspector
	inspect.Declarer
	inspect.AttachmentObserver
	inspect.AttachmentDeclarer
	inspect.AttachmentDigester
	inspect.AttachmentChanger
} = (*Inspector)(nil)

// New returns an Inspector that has no pods yet.
func New(o Options) *Inspector {
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
	i := &Inspector{
		options: o, pods: make(map[*inspect.Attachment]*pod),
		refusals:  make(map[podName]*refusals),
		labels:    make(map[string]*labels),
		replacing: make(chan struct{}, 1), changes: make(chan inspect.Change),
	}
	i.node = budget.New(int64(cmp.Or(o.NodeMemory, defaultNodeMemory)), 0, nil)
	i.loaded.Store(load(o.Rules, nil))
	return i
}

// Needs tells that rules settle flows and hold packets. What packets have to have is asked
// for each pod.
func (i *Inspector) Needs() inspect.Needs { return inspect.Needs{Settles: true, Defers: true} }

// Attached begins to judge the packets of a pod.
func (i *Inspector) Attached(a *inspect.Attachment) {
	for !i.add(i.newPod(a)) {
	}
}

// add takes a pod, unless its rules were replaced meanwhile, or its labels came.
func (i *Inspector) add(p *pod) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p.loaded != i.loaded.Load() || p.labels != i.labels[p.attachment.ContainerID] {
		return false
	}
	p.refused = i.acquireLocked(p.attachment)
	i.pods[p.attachment] = p
	return true
}

// Detached forgets a pod.
func (i *Inspector) Detached(a *inspect.Attachment) {
	p := i.pod(a)
	if p == nil {
		return
	}
	last := p.close()
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.pods, a)
	i.releaseLocked(a)
	i.gone.add(last)
}

func (i *Inspector) pod(a *inspect.Attachment) *pod {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.pods[a]
}

// Inspect judges a packet, as InspectBatch does.
func (i *Inspector) Inspect(packet *inspect.Packet) inspect.Verdict {
	verdicts := [1]inspect.Verdict{}
	i.InspectBatch([]*inspect.Packet{packet}, verdicts[:])
	return verdicts[0]
}

// InspectBatch judges packets, most often all of one pod. Those of flows that rules leave
// to another inspector get the verdict of the failure policy.
func (i *Inspector) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	i.InspectNaming(packets, verdicts, nil)
}

// InspectNaming judges packets. Where a rule leaves the flow of packets[n] to another
// inspector, its name is put into names[n], and the verdict is the one if that inspector
// accepts: it has the marks of rules. The others of names are not changed.
func (i *Inspector) InspectNaming(
	packets []*inspect.Packet, verdicts []inspect.Verdict, names []string,
) {
	now := i.options.Now()
	for first := 0; first < len(packets); {
		a, behind := packets[first].Attachment, first+1
		for behind < len(packets) && packets[behind].Attachment == a {
			behind++
		}
		if p := i.pod(a); p != nil {
			p.judgeAll(packets[first:behind], verdicts[first:behind],
				part(names, first, behind), now)
		}
		first = behind
	}
}

func part(names []string, first, behind int) []string {
	if names == nil {
		return nil
	}
	return names[first:behind]
}

// Tick ends what waits for too long. It is to be called each 50 ms.
func (i *Inspector) Tick() {
	now := i.options.Now()
	for _, p := range i.all(nil) {
		p.tick(now)
	}
}

// all returns all pods, so that packets need not wait while each is visited. Of those that
// were there before, it puts the counters into s, unless that is nil.
func (i *Inspector) all(s *Stats) []*pod {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if s != nil {
		i.gone.addTo(s)
	}
	return slices.Collect(maps.Values(i.pods))
}

// Of returns the rules that concern an attachment, and false if it is not known.
func (i *Inspector) Of(a *inspect.Attachment) (*List, bool) {
	p := i.pod(a)
	if p == nil {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list, true
}

// PodOf returns what rules can ask about the pod of an attachment when it begins.
func PodOf(a *inspect.Attachment) *Pod {
	return &Pod{
		Namespace: a.PodNamespace, Name: a.PodName, UID: a.PodUID, Network: a.Network,
		Interface: a.Ifname, Annotations: a.Annotations, Labels: a.Labels,
	}
}

// newPod makes a pod with the rules in use.
func (i *Inspector) newPod(a *inspect.Attachment) *pod {
	p := &pod{attachment: a, inspector: i, loaded: i.loaded.Load(), labels: i.labelsOf(a)}
	p.facts = factsOf(a, p.labels)
	p.list = p.loaded.of(p.facts)
	p.judge = judge.New(judge.Config{
		Pod: p.facts, Rules: p.list, Observer: p, Flows: i.options.Flows,
		Memory: i.options.PodMemory, Node: i.node, Buffers: &i.buffers,
		Idle: i.options.Idle, Resolvers: i.options.Resolvers,
	})
	return p
}

// of returns the rules that concern a pod, or nil if there are none.
func (l *loaded) of(pod *Pod) *compile.List {
	if l.rules == nil {
		return nil
	}
	return l.rules.Of(pod)
}
