// SPDX-License-Identifier: Apache-2.0

package flowtab

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// model has what the table must have: for each key, what the caller set last.
type model struct {
	t     *testing.T
	tab   *Table[uint64, facts]
	flows map[Key]*modelled
	node  *budget.Account
	now   time.Duration
	limit int
}

type modelled struct {
	n       uint64
	client  Side
	decided bool
	watched bool
	since   time.Duration
	why     Why
	given   bool
}

func newModel(t *testing.T, flows, bytes int) *model {
	m := &model{t: t, flows: make(map[Key]*modelled), node: budget.New(int64(bytes), 0, nil)}
	m.limit = flows
	m.tab = New(Config[uint64, facts]{
		Flows: flows, Undecided: 10 * time.Second, Idle: time.Minute,
		Entries: m.node, States: m.node, GiveUp: m.giveUp, Forget: m.forget,
	})
	return m
}

// giveUp expects an undecided or watched flow, and of the undecided ones the oldest.
func (m *model) giveUp(r Ref, u *uint64, why Why) facts {
	f := m.flows[*m.tab.Key(r)]
	if f == nil || f.decided || *u != f.n || why == Timeout && f.watched {
		m.t.Fatalf("gives up %+v", f)
	}
	for _, other := range m.flows {
		if !other.decided && !other.watched && !f.watched && other.since < f.since {
			m.t.Fatal("not the oldest flow gives way")
		}
	}
	f.decided, f.given, f.why = true, true, why
	return facts{given: 1, why: uint64(why), n: f.n}
}

func (m *model) forget(r Ref, u *uint64, f *facts) {
	k := *m.tab.Key(r)
	want := m.flows[k]
	if want != nil && (u == nil) != want.decided || u != nil && want != nil && *u != want.n {
		m.t.Fatalf("forgets %+v with state %v, facts %+v", want, u, f)
	}
	delete(m.flows, k)
}

func (m *model) step(op, key byte) {
	k := keyOf(int(key))
	r := m.tab.Find(&k, m.now)
	f := m.flows[k]
	if (r != 0) != (f != nil) {
		m.t.Fatalf("key %d: found %d, want %+v", key, r, f)
	}
	switch {
	case op < 96:
		m.add(&k, Side(op&1 == 0), uint64(op)<<8|uint64(key))
	case op < 104:
		m.now += time.Duration(op) * time.Second / 16
	case op < 112:
		m.tab.Expire(m.now, int(key))
	case op < 116:
		m.walk()
	case op < 120:
		if !m.tab.Shed(r) && m.states() > 1 {
			m.t.Fatal("nothing to shed")
		}
	case f != nil:
		m.change(r, f, op)
	}
	m.check()
}

func (m *model) add(k *Key, client Side, n uint64) {
	r, ok := m.tab.Add(k, client, m.now)
	if !ok {
		if m.flows[*k] != nil {
			m.t.Fatal("the old flow is still there")
		}
		return
	}
	*m.tab.State(r) = n
	m.flows[*k] = &modelled{n: n, client: client, since: m.now}
}

func (m *model) change(r Ref, f *modelled, op byte) {
	switch op % 4 {
	case 0:
		m.tab.Decide(r, facts{n: f.n})
		f.decided, f.given, f.why = true, false, 0
	case 1:
		m.tab.Watch(r)
		f.watched = true
	case 2:
		m.tab.SetClient(r, !f.client)
		f.client = !f.client
	default:
		m.tab.Remove(r)
	}
}

func (m *model) states() (n int) {
	for _, f := range m.flows {
		if !f.decided {
			n++
		}
	}
	return n
}

// walk meets each flow once, and removes some on the way.
func (m *model) walk() {
	met := make(map[Key]bool)
	n := len(m.flows)
	for r := m.tab.Next(0); r != 0; r = m.tab.Next(r) {
		k := *m.tab.Key(r)
		if met[k] || m.flows[k] == nil {
			m.t.Fatal("meets a flow twice, or one that is gone")
		}
		met[k] = true
		if len(met)%5 == 0 {
			m.tab.Remove(r)
		}
	}
	if len(met) != n {
		m.t.Fatal("meets", len(met), "of", n)
	}
}

func (m *model) check() {
	flows, undecided := m.tab.Len()
	if flows != len(m.flows) || flows > m.limit || m.node.Used() < 0 {
		m.t.Fatal(flows, len(m.flows), m.node.Used())
	}
	for k, f := range m.flows {
		number, ok := m.tab.find(&k, m.tab.hash(&k))
		if !ok {
			m.t.Fatalf("%+v is gone", f)
		}
		m.compare(refOf(number), f)
		if !f.decided && !f.watched {
			undecided--
		}
	}
	if undecided != 0 {
		m.t.Fatal(undecided, "more are undecided")
	}
}

func (m *model) compare(r Ref, f *modelled) {
	u, got := m.tab.State(r), m.tab.Facts(r)
	switch {
	case m.tab.Client(r) != f.client, (u == nil) != f.decided:
	case !f.decided && *u == f.n:
		return
	case f.decided && got.n == f.n && (got.given == 1) == f.given && got.why == uint64(f.why):
		return
	}
	m.t.Fatalf("%+v, want %+v", got, f)
}

func (m *model) run(in []byte) {
	for ; len(in) >= 2; in = in[2:] {
		m.step(in[0], in[1])
	}
	m.tab.Close()
	if m.node.Used() != 0 || len(m.flows) != 0 {
		m.t.Fatal(m.node.Used(), "bytes and", len(m.flows), "flows are left")
	}
}

// modelOf takes a limit of flows and of memory from the first bytes.
func modelOf(t *testing.T, in []byte) {
	if len(in) < 2 {
		return
	}
	newModel(t, 1+int(in[0]), 512<<(in[1]%8)).run(in[2:])
}

func FuzzAgainstAMap(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(steps(rnd, rnd.IntN(300)))
	}
	f.Fuzz(modelOf)
}

func TestAnyStepsAgainstAMap(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		modelOf(t, steps(rnd, rnd.IntN(1000)))
	}
}

func steps(rnd *rand.Rand, n int) []byte {
	b := make([]byte, 2*n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}
