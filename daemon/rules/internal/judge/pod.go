// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/names"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/dns"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/http"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/quic"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/proto/tls"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

// What is allowed where Config says nothing.
const (
	DefaultFlows   = 65536
	DefaultMemory  = 4 << 20
	DefaultTimeout = 10 * time.Second
	DefaultIdle    = 10 * time.Minute
)

// Config is what a Pod is made with. The zero value is ready for a pod without a name.
type Config struct {
	// Pod is what rules can ask about the pod.
	Pod *compile.Pod
	// Rules are those that concern the pod. Nil: everything is accepted.
	Rules *compile.List
	// Observer is told what happens. Nil: nobody is.
	Observer Observer

	// Flows is how many flows are remembered at most.
	Flows int
	// Memory is how many bytes undecided flows may take. Node is the account that they
	// are taken from, too; nil: there is no other limit.
	Memory int
	Node   *budget.Account
	// Buffers are shared by all pods of a node. Nil: the pod has its own.
	Buffers *stream.Pool
	// Timeout is how long a flow may be undecided.
	Timeout time.Duration
	// Idle is how long a decided flow without a packet is remembered.
	Idle time.Duration
	// Resolvers are whose answers tell names of addresses. Nil: everybody's are.
	Resolvers []netip.Addr
}

// Stats are numbers of a Pod.
type Stats struct {
	Flows, Undecided int
	// Memory is how many bytes of the pod's limit are taken.
	Memory int64
	// Errors counts flows and messages that could not be read to their end, by
	// protocol and by what was wrong, as app.protocol and app.error name them.
	Errors map[[2]string]uint64
	// Checksums counts packets that were dropped for a wrong checksum, and Outside
	// those whose bytes could not be kept where they were.
	Checksums, Outside uint64
	// Names are about the resolving of names, where rules ask for them.
	Names NameStats
	// ReadsNames says that rules ask for them.
	ReadsNames bool
}

// NameStats count what was seen of the resolving of names.
type NameStats = names.Stats

// Pod judges the packets of one pod.
type Pod struct {
	config   Config
	rules    *compile.List
	version  uint16 // counts the times that other rules came
	epoch    uint16 // counts the times that rules came, which may have been the same
	bytes    bool   // some rule asks for what packets carry
	enforces bool   // some rule that does not only audit does

	table   *flowtab.Table[*work, facts]
	account *budget.Account
	memory  stream.Memory
	hellos  store[hello]
	names   store[[]string]

	resolved  *names.Table
	usesUser  bool     // some rule asks whose the pod's socket is
	usesNames bool     // some rule asks for what the server is called
	list      []string // for a moment

	rulings  []answered
	rulingOf map[ruling]uint16

	repeats *repeats    // nil: there are none
	steady  flowtab.Ref // the flow whose decision of before is the answer; 0: none
	frame   frame
	flow    compile.Flow     // what rules are asked about
	scratch compile.Progress // of decisions that are not prepared by others
	note    Note
	key     []byte
	shared  *tools
	lastID  uint32
	expired time.Duration // when flows were last
	cleaned time.Duration // when names were last
	undone  []timer       // flows of QUIC whose hello is not complete, in their order
	done    []timer       // those whose hello is kept
	numbers map[uint8]string

	spare     []*work
	spareQUIC []*quic.State

	failures           [apps][failures]uint64
	checksums, outside uint64
}

// tools are what parsers need only while they work.
type tools struct {
	hello   tls.Hello
	joined  [tls.MaxStream]byte
	opener  quic.Opener
	message dns.Message
	request http.Request

	resolution dns.Resolution
}

// ruling is what was decided of a flow, and the marks of its packets.
type ruling struct {
	compile.Decision
	mark, mask uint32
}

// answered is a ruling with the answer to packets of its flows.
type answered struct {
	ruling

	outcome Outcome
}

func (r ruling) answered() answered {
	o := Outcome{
		Action: actionOf(r.Verdict), Settle: r.Decision.Settle(), Mark: r.mark, MarkMask: r.mask,
		By: r.Name(), Inspector: r.Inspector(),
	}
	if r.Set == nil && o.Action != Accept { // no end of sets refuses
		o.By = byConflict
	}
	return answered{r, o}
}

// New returns a Pod without flows.
func New(c Config) *Pod {
	c.Flows = cmp.Or(c.Flows, DefaultFlows)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Idle = cmp.Or(c.Idle, DefaultIdle)
	if c.Pod == nil {
		c.Pod = new(compile.Pod)
	}
	if c.Buffers == nil {
		c.Buffers = new(stream.Pool)
	}
	p := &Pod{config: c, numbers: make(map[uint8]string)}
	p.account = budget.New(int64(cmp.Or(c.Memory, DefaultMemory)), floor, c.Node)
	p.memory = stream.Memory{Pool: c.Buffers, Account: p.account}
	p.hellos = newStore[hello](p.account)
	p.names = newStore[[]string](p.account)
	p.resolved = names.New(names.Config{Resolvers: c.Resolvers, Account: p.account})
	p.table = flowtab.New(flowtab.Config[*work, facts]{
		Flows: c.Flows, Undecided: c.Timeout, Idle: c.Idle,
		States: p.account, GiveUp: p.giveUp, Forget: p.forget,
	})
	p.SetRules(c.Rules)
	return p
}

// fewFlows are kept however long they are idle: connections of days are among them.
const fewFlows = 512

// floor is what a pod gets although others have taken all memory of the node.
const floor = 64 << 10

// SetPod changes what rules can ask about the pod. The caller sets the rules that concern
// it then.
func (p *Pod) SetPod(pod *compile.Pod) { p.config.Pod = pod }

// SetRules gives the pod other rules. Flows that are not decided are decided by the new
// ones, and decided flows are decided again, from what is remembered of them, when their
// next packet comes.
func (p *Pod) SetRules(rules *compile.List) {
	p.forgetRepeats()
	p.rules = rules
	p.version++
	p.epoch++
	p.usesUser = rules != nil && rules.ReadsUser()
	p.usesNames = rules != nil && rules.ReadsNames()
	p.bytes = rules != nil && rules.Reads()&(compile.App|compile.Message) != 0
	p.enforces = rules != nil && slices.ContainsFunc(rules.Rules(), enforces)
	p.rulings = append(p.rulings[:0], answered{})
	p.rulingOf = make(map[ruling]uint16)
}

// enforces reports whether a rule decides by what packets carry.
func enforces(r *compile.Rule) bool {
	return !r.Set.Audit && r.Reads&(compile.App|compile.Message) != 0
}

// Renew gives the pod rules that are equal to those that it has: what was decided stays.
func (p *Pod) Renew(rules *compile.List) {
	if rules == p.rules || rules == nil {
		return
	}
	sets, ruleOf := make(map[*compile.Set]*compile.Set), make(map[*compile.Rule]*compile.Rule)
	newSets, newRules := rules.Sets(), rules.Rules()
	for i, set := range p.rules.Sets() {
		sets[set] = newSets[i]
	}
	for i, rule := range p.rules.Rules() {
		ruleOf[rule] = newRules[i]
	}
	p.forgetRepeats()
	p.rules = rules
	p.epoch++
	clear(p.rulingOf)
	for i := range p.rulings {
		r := p.rulings[i].ruling
		r.Set, r.Rule = sets[r.Set], ruleOf[r.Rule]
		p.rulings[i] = r.answered()
		if i > 0 {
			p.rulingOf[r] = uint16(i)
		}
	}
}

// Tick ends what waits for too long. It is to be called about each second, or more often
// where sets hold packets.
func (p *Pod) Tick(now time.Duration) {
	p.forgetRepeats()
	p.frame.now = now
	p.expireQUIC(now)
	if now-p.expired < time.Second {
		return
	}
	p.expired = now
	flows, _ := p.table.Len()
	sweep := 64 + flows/30
	if flows <= fewFlows {
		sweep = 0
	}
	p.table.Expire(now, sweep)
	if now-p.cleaned >= time.Minute {
		p.cleaned = now
		p.resolved.Expire(now)
	}
	if flows, _ = p.table.Len(); flows == 0 {
		p.spare, p.spareQUIC, p.shared, p.repeats = nil, nil, nil, nil
	}
}

// Undecided tells of each flow that is not decided yet: what rules wait for it.
func (p *Pod) Undecided(tell func(*Note)) {
	for r := p.table.Next(0); r != 0; r = p.table.Next(r) {
		f := p.table.Facts(r)
		if w := p.state(r); w == nil || f.has(decided) {
			continue
		}
		p.fill(p.table.Key(r), p.table.Client(r), f)
		p.scratch.Reset()
		d := p.rules.Decide(&p.flow, &p.scratch)
		tell(p.decided(f, d))
	}
}

// Stats returns the numbers of the moment.
func (p *Pod) Stats() Stats {
	s := Stats{
		Memory: p.account.Used(), Checksums: p.checksums, Outside: p.outside,
		Names: p.resolved.Stats(), ReadsNames: p.usesNames,
	}
	s.Flows, s.Undecided = p.table.Len()
	s.Errors = make(map[[2]string]uint64)
	for a := range p.failures {
		for why, n := range p.failures[a] {
			if n > 0 {
				s.Errors[[2]string{app(a).String(), failure(why).String()}] = n
			}
		}
	}
	return s
}

// Close gives all memory back. The Pod is not used any more.
func (p *Pod) Close() {
	p.table.Close()
	p.hellos.close()
	p.names.close()
	p.resolved.Close()
}

func (p *Pod) tools() *tools {
	if p.shared == nil {
		p.shared = new(tools)
	}
	return p.shared
}

// state returns the work of a flow, or nil.
func (p *Pod) state(r flowtab.Ref) *work {
	if u := p.table.State(r); u != nil {
		return *u
	}
	return nil
}

// forget is called before a flow ends.
func (p *Pod) forget(r flowtab.Ref, u **work, f *facts) {
	p.forgetRepeatsBetween(p.table.Key(r).Ports())
	p.release(f)
	if u != nil && *u != nil {
		p.freeWork(*u)
	}
}
