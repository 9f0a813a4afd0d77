// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/judge"
)

// pod is a pod whose packets are judged.
type pod struct {
	attachment *inspect.Attachment
	inspector  *Inspector
	labels     *labels                     // that it began with
	refused    *refusals                   // set where it becomes known
	last       atomic.Pointer[judge.Stats] // that somebody asked for

	mu     sync.Mutex // guards what follows
	facts  *Pod       // not changed itself
	coming *Pod       // facts of soon; nil: none
	judge  *judge.Pod
	list   *List
	loaded *loaded
	now    time.Duration
	packet judge.Packet
	held   held
	closed bool
}

// judgeAll judges packets of the pod.
func (p *pod) judgeAll(
	packets []*inspect.Packet, verdicts []inspect.Verdict, names []string, now time.Duration,
) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, packet := range packets {
		switch name := p.judgeLocked(packet, now, &verdicts[i]); {
		case name == "":
		case names == nil:
			verdicts[i] = inspect.Verdict{}
		default:
			names[i] = name
		}
	}
}

// judgeLocked judges a packet, and returns the name of another inspector to which it is
// left. Where the pod is gone, or required rules are not there, the failure policy judges.
func (p *pod) judgeLocked(
	packet *inspect.Packet, now time.Duration, v *inspect.Verdict,
) (name string) {
	*v = inspect.Verdict{}
	if p.closed || p.loaded.rules == nil && p.inspector.options.Required {
		return ""
	}
	fill(&p.packet, packet)
	o := p.judge.Judge(&p.packet, p.at(now))
	p.packet.Payload = nil
	answer(&o, v)
	if len(p.held.decided) > 0 {
		p.held.release(&o, packet, v)
	}
	if o.Action == judge.Hold {
		*v = p.held.hold(packet, &o, p.now)
	}
	return o.Inspector
}

// at keeps time from going back: calls for one pod need not come in the order of their
// moments.
func (p *pod) at(now time.Duration) time.Duration {
	p.now = max(p.now, now)
	return p.now
}

// fill makes a packet what the judge has to know of it.
func fill(to *judge.Packet, from *inspect.Packet) {
	to.Direction = from.Direction
	to.Payload, to.Length = from.Payload, from.Length
	to.Unverified = from.Checksum == inspect.ChecksumUnverified && !from.Merged
	to.Merged = from.Merged
	to.SocketUID = from.UID
}

// answer makes an empty verdict what an outcome says.
func answer(o *judge.Outcome, v *inspect.Verdict) {
	switch o.Action {
	case judge.None:
		return
	case judge.Accept, judge.Pass:
		v.Action = inspect.Accept
	case judge.Reject:
		v.Action = inspect.Reject
	default:
		v.Action = inspect.Drop
	}
	v.Settle, v.Mark, v.MarkMask, v.Reason = o.Settle, o.Mark, o.MarkMask, o.By
}

// differs reports whether other rules concern the pod than those that it has.
func (p *pod) differs(l *loaded) bool {
	list := l.of(p.known())
	p.mu.Lock()
	defer p.mu.Unlock()
	return digestOf(list) != digestOf(p.list)
}

// replace gives the pod other rules, and returns false if they are the same for it.
func (p *pod) replace(l *loaded) bool {
	list := l.of(p.known())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.loaded = l
	return p.useLocked(list)
}

// known returns what rules can ask about the pod. It changes only in turns, as its rules do.
func (p *pod) known() *Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts
}

// useLocked has the pod judged by a list, and returns false if it is the same as before.
func (p *pod) useLocked(list *List) bool {
	same := digestOf(list) == digestOf(p.list)
	p.list = list
	if same {
		p.judge.Renew(list)
	} else {
		p.judge.SetRules(list)
	}
	return !same
}

func (p *pod) tick(now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.judge.Tick(p.at(now))
		p.held.release(&judge.Outcome{}, nil, &inspect.Verdict{})
		p.held.tick(p.now)
	}
}

// tries is how often a busy pod is asked for its numbers. Packets take microseconds each:
// only if one is never through, its pod's last numbers have to do.
const tries = 1000

func (p *pod) stats() judge.Stats {
	for range tries {
		if p.mu.TryLock() {
			s := p.judge.Stats()
			p.last.Store(&s)
			p.mu.Unlock()
			return s
		}
		runtime.Gosched()
	}
	if s := p.last.Load(); s != nil {
		return *s
	}
	return judge.Stats{}
}

// close gives back what the pod holds, and returns its last numbers.
func (p *pod) close() judge.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.judge.Stats()
	p.judge.Close()
	p.closed = true
	return s
}

// Note counts what happens to a flow of the pod, and passes it on. Its lock is held.
func (p *pod) Note(n *judge.Note) {
	c := &p.inspector.counts
	switch n.Kind {
	case judge.Conflict:
		c.conflicts.Add(1)
	case judge.Subflow:
		c.subflows.Add(1)
	default:
		p.loaded.note(n, p.now)
	}
	if n.Kind == judge.Decided {
		p.count(n.Verdict)
	}
	p.held.note(n)
	if sink := p.inspector.options.Sink; sink != nil {
		sink.Note(p.attachment, p.facts, n)
	}
}

func (p *pod) count(v compile.Verdict) {
	c := &p.inspector.counts
	switch v {
	case compile.Accepted:
		c.accepted.Add(1)
		return
	case compile.Inspected:
		c.inspected.Add(1)
		return
	case compile.Rejected:
		c.rejected.Add(1)
	case compile.Dropped:
		c.dropped.Add(1)
	}
	p.refused.count.Add(1)
}

// gone has the counters of pods that are no more.
type gone struct {
	errors             map[[2]string]uint64
	checksums, outside uint64
	names              NameStats
}

func (g *gone) add(s judge.Stats) {
	if g.errors == nil {
		g.errors = make(map[[2]string]uint64)
	}
	for key, n := range s.Errors {
		g.errors[key] += n
	}
	g.checksums += s.Checksums
	g.outside += s.Outside
	g.names.Add(s.Names)
}

func (g *gone) addTo(s *Stats) {
	add(s, &judge.Stats{
		Errors: g.errors, Checksums: g.checksums, Outside: g.outside, Names: g.names,
	})
}

func add(s *Stats, of *judge.Stats) {
	for key, n := range of.Errors {
		s.Errors[key] += n
	}
	s.Checksums += of.Checksums
	s.Outside += of.Outside
	s.Names.Add(of.Names)
}
