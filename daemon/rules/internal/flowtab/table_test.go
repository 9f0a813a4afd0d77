// SPDX-License-Identifier: Apache-2.0

package flowtab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

// at is where the i-th key is.
func at(i int) *Key {
	k := keyOf(i)
	return &k
}

type (
	work  struct{ bytes [500]byte }
	facts struct{ given, why, n uint64 } // 24 bytes
)

type table = Table[work, facts]

// newTable returns a table that charges node, and counts what it forgets.
func newTable(flows int, node *budget.Account, forgotten *int) *table {
	return New(Config[work, facts]{
		Flows: flows, Undecided: 10 * time.Second, Idle: time.Minute,
		Entries: budget.New(64<<20, 0, node), States: budget.New(4<<20, 0, node),
		GiveUp: func(_ Ref, _ *work, why Why) facts { return facts{given: 1, why: uint64(why)} },
		Forget: func(Ref, *work, *facts) { *forgotten++ },
	})
}

func keyOf(i int) Key {
	k, _ := KeyOf(netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)}),
		netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(i), 443, 6)
	return k
}

func TestKey(t *testing.T) {
	if n := unsafe.Sizeof(Key{}); n != 40 {
		t.Error(n, "bytes")
	}
	ports := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	seen := make(map[Key]string)
	for _, tc := range []struct{ a, b string }{
		{"10.0.0.1:1", "10.0.0.2:2"},
		{"10.0.0.1:2", "10.0.0.2:1"},
		{"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2"},
		{"[2001:db8::1]:1", "[2001:db8::2]:2"},
		{"127.0.0.1:5", "127.0.0.1:6"},
		{"127.0.0.1:5", "127.0.0.1:5"},
	} {
		a, b := ports(tc.a), ports(tc.b)
		for _, protocol := range []uint8{6, 17} {
			there, from := KeyOf(a.Addr(), b.Addr(), a.Port(), b.Port(), protocol)
			back, to := KeyOf(b.Addr(), a.Addr(), b.Port(), a.Port(), protocol)
			if there != back || from == to && a != b {
				t.Errorf("%+v: the directions differ", tc)
			}
			if there.End(from) != a || back.End(to) != b || there.Protocol() != protocol {
				t.Errorf("%+v: %v %v", tc, there.End(from), back.End(to))
			}
			if other := seen[there]; other != "" {
				t.Errorf("%+v has the key of %s", tc, other)
			}
			seen[there] = fmt.Sprint(tc, protocol)
		}
	}
}

// Keys that differ little have hashes that differ in all bits, and not the same ones in
// another table.
func TestHashesSpread(t *testing.T) {
	const n = 1 << 12
	tables := []*table{newTable(1, nil, new(int)), newTable(1, nil, new(int))}
	if tables[0].hash(at(1)) == tables[1].hash(at(1)) && tables[0].hash(at(2)) == tables[1].hash(at(2)) {
		t.Error("two tables have the same hashes")
	}
	low, high := make(map[uint32]int), make(map[uint32]int)
	for i := range n {
		h := tables[0].hash(at(i))
		low[h%n]++
		high[h>>20]++
	}
	// Of random hashes, 63 % of all places have one.
	if len(low) < n/2 || len(high) < n/2 {
		t.Error(len(low), len(high), "of", n)
	}
}

func TestLifeOfAFlow(t *testing.T) {
	var forgotten int
	node := budget.New(64<<20, 0, nil)
	tab := newTable(100, node, &forgotten)
	if tab.Find(at(1), 0) != 0 {
		t.Fatal("found in an empty table")
	}
	r, ok := tab.Add(at(1), High, 0)
	if !ok || tab.Find(at(1), 0) != r || tab.Client(r) != High || *tab.Key(r) != keyOf(1) {
		t.Fatal(r, ok)
	}
	tab.State(r).bytes[0] = 1
	tab.Decide(r, facts{n: 7})
	if tab.State(r) != nil || tab.Facts(r).n != 7 {
		t.Error("not decided")
	}
	again, _ := tab.Add(at(1), Low, 0) // a SYN on the same addresses and ports
	if forgotten != 1 || tab.State(again).bytes[0] != 0 || tab.Facts(again).n != 0 {
		t.Error("the new flow has something of the old one")
	}
	tab.Remove(again)
	tab.Close()
	if flows, undecided := tab.Len(); flows+undecided != 0 || node.Used() != 0 || forgotten != 2 {
		t.Error(flows, undecided, node.Used(), forgotten)
	}
}

func TestExpiry(t *testing.T) {
	var forgotten int
	tab := newTable(100, nil, &forgotten)
	late, _ := tab.Add(at(1), Low, 0)
	watched, _ := tab.Add(at(2), Low, 0)
	tab.Watch(watched)
	closing, _ := tab.Add(at(3), Low, 0)
	tab.Decide(closing, facts{})
	tab.SetIdle(closing, 5*time.Second)
	tab.Expire(9*time.Second, 100)
	if forgotten != 1 || tab.Find(at(3), 9*time.Second) != 0 || tab.State(late) == nil {
		t.Fatal("after 9 s:", forgotten)
	}
	tab.Expire(10*time.Second, 100)
	if tab.State(late) != nil || *tab.Facts(late) != (facts{given: 1}) || tab.State(watched) == nil {
		t.Fatal("after 10 s")
	}
	tab.Find(at(2), 30*time.Second)
	tab.Expire(61*time.Second, 100)
	tab.Expire(62*time.Second, 100)
	if tab.Find(at(1), 62*time.Second) != 0 || tab.Find(at(2), 62*time.Second) != watched {
		t.Error("after a minute")
	}
}

// The clock is read before the packets that come meanwhile.
func TestExpiryBeforeAPacket(t *testing.T) {
	var forgotten int
	tab := newTable(100, nil, &forgotten)
	r, _ := tab.Add(at(1), Low, 11*time.Second)
	tab.Decide(r, facts{})
	if tab.Expire(10*time.Second, 100); forgotten != 0 {
		t.Error("a flow has ended before it began")
	}
}

func TestDecidedFlowsGiveWayByUse(t *testing.T) {
	var forgotten int
	tab := newTable(50, nil, &forgotten)
	for i := range 50 {
		r, _ := tab.Add(at(i), Low, 0)
		tab.Decide(r, facts{n: uint64(i)})
	}
	for i := range 200 {
		if tab.Find(at(7), time.Second) == 0 {
			t.Fatal("the flow in use is gone after", i)
		}
		r, ok := tab.Add(at(100+i), Low, time.Second)
		if !ok {
			t.Fatal(i)
		}
		tab.Decide(r, facts{})
	}
	if flows, _ := tab.Len(); flows != 50 || forgotten != 200 {
		t.Error(flows, forgotten)
	}
}

func TestUndecidedFlowsDoNotPushOutAll(t *testing.T) {
	var forgotten int
	node := budget.New(64<<20, 0, nil)
	tab := newTable(1000, node, &forgotten)
	settled, _ := tab.Add(at(0), Low, 0)
	tab.Decide(settled, facts{})
	for i := 1; i < 100_000; i++ {
		if _, ok := tab.Add(at(i), Low, 0); !ok {
			t.Fatal(i)
		}
	}
	if flows, _ := tab.Len(); flows != 1000 || tab.Find(at(0), 0) != settled {
		t.Error(flows)
	}
}

func TestStatesStayInTheirBudget(t *testing.T) {
	node := budget.New(1<<20, 0, nil)
	var forgotten int
	tab := newTable(MaxFlows, node, &forgotten)
	for i := range 5000 {
		if r, ok := tab.Add(at(i), Low, 0); !ok || tab.State(r) == nil {
			t.Fatal(i, ok)
		}
		if node.Used() > 1<<20 {
			t.Fatal(node.Used())
		}
	}
	if r := tab.Find(at(0), 0); r != 0 && tab.Facts(r).why != uint64(Memory) {
		t.Error("the oldest flow did not give way", r)
	}
	tab.Close()
	if node.Used() != 0 {
		t.Error(node.Used())
	}
}

func TestNoMemoryAtAll(t *testing.T) {
	var forgotten int
	tab := newTable(10, budget.New(1000, 0, nil), &forgotten)
	if _, ok := tab.Add(at(1), Low, 0); ok {
		t.Error("added")
	}
	if flows, undecided := tab.Len(); flows+undecided != 0 || tab.Find(at(1), 0) != 0 {
		t.Error(flows, undecided)
	}
}

func TestShed(t *testing.T) {
	var forgotten int
	tab := newTable(10, nil, &forgotten)
	watched, _ := tab.Add(at(1), Low, 0)
	tab.Watch(watched)
	a, _ := tab.Add(at(2), Low, 0)
	b, _ := tab.Add(at(3), Low, 0)
	if !tab.Shed(a) || tab.State(b) != nil || tab.Facts(b).why != uint64(Memory) {
		t.Error("not the oldest but one")
	}
	if !tab.Shed(a) || tab.State(watched) != nil || tab.Shed(a) || !tab.Shed(0) || tab.Shed(0) {
		t.Error("wrong order")
	}
}

// A table does what a map does, whatever comes and goes.
func TestAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var forgotten int
		node := budget.New(64<<20, 0, nil)
		tab := newTable(MaxFlows, node, &forgotten)
		want := make(map[int]bool)
		for range 4000 {
			i := rnd.IntN(800)
			r := tab.Find(at(i), 0)
			if (r != 0) != want[i] || r != 0 && *tab.Key(r) != keyOf(i) {
				t.Fatal("seed", seed, "key", i, "found", r)
			}
			change(tab, rnd, i, r, want)
		}
		walk(t, tab, want)
		tab.Close()
		if node.Used() != 0 {
			t.Fatal(node.Used(), "bytes left")
		}
	}
}

func change(tab *table, rnd *rand.Rand, i int, r Ref, want map[int]bool) {
	switch {
	case r == 0 && rnd.IntN(3) > 0:
		r, _ = tab.Add(at(i), Low, 0)
		want[i] = true
		if rnd.IntN(2) == 0 {
			tab.Decide(r, facts{})
		}
	case r != 0 && rnd.IntN(2) == 0:
		tab.Remove(r)
		delete(want, i)
	case rnd.IntN(50) == 0:
		tab.Expire(0, 10)
	}
}

// walk goes through the table and decides what it comes to.
func walk(t *testing.T, tab *table, want map[int]bool) {
	t.Helper()
	n := 0
	for r := tab.Next(0); r != 0; r = tab.Next(r) {
		tab.Decide(r, facts{})
		n++
	}
	if flows, undecided := tab.Len(); n != len(want) || flows != n || undecided != 0 {
		t.Error(n, len(want), flows, undecided)
	}
}

// A decided flow takes 96 bytes at most, and what a flood took comes back.
func TestMemoryOfAFlow(t *testing.T) {
	const n = 65_536
	var forgotten int
	node := budget.New(64<<20, 0, nil)
	tab := newTable(n, node, &forgotten)
	for i := range n {
		r, _ := tab.Add(at(i), Low, 0)
		tab.Decide(r, facts{})
	}
	if each := node.Used() / n; each > 94 { // and 9 bits in the slab's lists
		t.Error(each, "bytes a flow")
	}
	for range 3 {
		tab.Expire(time.Hour, n)
	}
	if node.Used() != 0 || forgotten != n {
		t.Error(node.Used(), forgotten)
	}
}

func TestSteadyTableAllocatesNothing(t *testing.T) {
	var forgotten, i int
	tab := newTable(1000, nil, &forgotten)
	var key Key
	next := func() {
		i++
		key = keyOf(i)
		r, _ := tab.Add(&key, Low, 0)
		key = keyOf(i - 3)
		tab.Find(&key, 0)
		tab.Decide(r, facts{})
		if i%100 == 0 {
			tab.Expire(0, 100)
		}
	}
	for range 3000 {
		next()
	}
	if n := testing.AllocsPerRun(3000, next); n != 0 {
		t.Error(n, "allocations")
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10_000, 65_536} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var forgotten int
			tab := newTable(n, nil, &forgotten)
			keys := make([]Key, n)
			for i := range keys {
				keys[i] = keyOf(i)
				r, _ := tab.Add(&keys[i], Low, 0)
				tab.Decide(r, facts{})
			}
			rand.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if tab.Find(&keys[i], 0) == 0 {
					b.Fatal(i)
				}
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	var forgotten, i int
	tab := newTable(65_536, nil, &forgotten)
	var key Key
	b.ReportAllocs()
	for b.Loop() {
		i++
		key = keyOf(i)
		r, _ := tab.Add(&key, Low, 0)
		tab.Decide(r, facts{})
	}
}

// Many flows are remembered for long.
func TestSizeOfEntries(t *testing.T) {
	if n := unsafe.Sizeof(entry[[7]uint32]{}); n > 80 {
		t.Errorf("a flow takes %d bytes, 28 of them its facts", n)
	}
}
