// SPDX-License-Identifier: Apache-2.0

package names

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/budget"
)

func ask(name string) *Question {
	return &Question{
		ID: 7, Protocol: 17, ClientPort: 40000, Name: []byte(name), Type: 1, Class: 1,
		Server: netip.MustParseAddrPort("10.96.0.10:53"),
	}
}

// tell makes an answer of names and a number of addresses from number first.
func tell(ttl uint32, first, n int, names ...string) *Answer {
	a := &Answer{TTL: ttl}
	for _, name := range names {
		a.Names = append(a.Names, []byte(name))
	}
	for i := range n {
		a.Addrs = append(a.Addrs, addr(first+i))
	}
	return a
}

func addr(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0xc0000200+uint32(i))
	return netip.AddrFrom4(b)
}

func resolve(t *Table, a *Answer, now time.Duration) bool {
	q := ask(string(a.Names[0]))
	t.Asked(q, now)
	return t.Answered(q, a, now)
}

func expect(t *testing.T, tab *Table, i int, now time.Duration, want ...string) {
	t.Helper()
	got := tab.Lookup(addr(i), now, nil)
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("address %d is called %q, want %q", i, got, want)
	}
}

func TestOnlyAnswersToTheQuestion(t *testing.T) {
	for name, change := range map[string]func(q *Question){
		"ID":       func(q *Question) { q.ID++ },
		"protocol": func(q *Question) { q.Protocol = 6 },
		"port":     func(q *Question) { q.ClientPort++ },
		"server":   func(q *Question) { q.Server = netip.MustParseAddrPort("10.96.0.11:53") },
		"its port": func(q *Question) { q.Server = netip.MustParseAddrPort("10.96.0.10:54") },
		"name":     func(q *Question) { q.Name = []byte("other.example") },
		"type":     func(q *Question) { q.Type = 28 },
		"class":    func(q *Question) { q.Class = 3 },
	} {
		tab := New(Config{})
		tab.Asked(ask("a.example"), 0)
		q := ask("a.example")
		change(q)
		if tab.Answered(q, tell(60, 1, 1, string(q.Name)), 0) || tab.Len() != 0 {
			t.Error("another", name, "is believed")
		}
		if !tab.Answered(ask("a.example"), tell(60, 1, 1, "a.example"), 0) {
			t.Error("after another", name, "the right answer is not believed")
		}
		expect(t, tab, 1, 0, "a.example")
	}
}

func TestAnswerNobodyAskedFor(t *testing.T) {
	tab := New(Config{})
	if tab.Answered(ask("a.example"), tell(60, 1, 1, "a.example"), 0) || tab.Len() != 0 {
		t.Error("believed")
	}
	if tab.Answered(&Question{}, tell(60, 1, 1, ""), 0) {
		t.Error("an empty one is believed")
	}
	tab.Asked(ask("a.example"), 0)
	if tab.Answered(ask("a.example"), tell(60, 1, 1, "a.example"), patience+1) {
		t.Error("believed too late")
	}
}

func TestSecondAnswerDoesNotCount(t *testing.T) {
	tab := New(Config{})
	resolve(tab, tell(60, 1, 1, "a.example"), 0)
	for range 2 {
		if tab.Answered(ask("a.example"), tell(60, 2, 1, "a.example"), 0) {
			t.Error("believed")
		}
	}
	if q := new(Question); tab.Answered(q, tell(60, 2, 1, ""), 0) {
		t.Error("the place of an answered question counts as one")
	}
	expect(t, tab, 2, 0)
}

func TestAnswerAboutAnotherName(t *testing.T) {
	tab := New(Config{})
	tab.Asked(ask("a.example"), 0)
	tab.Answered(ask("a.example"), tell(60, 1, 1, "b.example"), 0)
	expect(t, tab, 1, 0)
}

func TestResolversThatAreListed(t *testing.T) {
	for _, tc := range []struct {
		resolvers []netip.Addr
		want      bool
	}{
		{nil, true},
		{[]netip.Addr{}, false},
		{[]netip.Addr{netip.MustParseAddr("10.96.0.11")}, false},
		{[]netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("10.96.0.10")}, true},
		{[]netip.Addr{netip.MustParseAddr("::ffff:10.96.0.10")}, true},
	} {
		tab := New(Config{Resolvers: tc.resolvers})
		if got := resolve(tab, tell(60, 1, 1, "a.example"), 0); got != tc.want {
			t.Errorf("%v: %v", tc.resolvers, got)
		}
	}
}

func TestTimeToLive(t *testing.T) {
	for _, tc := range []struct {
		ttl  uint32
		want time.Duration
	}{
		{0, MinTTL}, {29, MinTTL}, {300, 300 * time.Second}, {3601, MaxTTL}, {1<<32 - 1, MaxTTL},
	} {
		tab := New(Config{})
		const now = time.Minute
		resolve(tab, tell(tc.ttl, 1, 1, "a.example"), now)
		expect(t, tab, 1, now+tc.want, "a.example")
		tab.Expire(now + tc.want)
		if tab.Len() != 1 {
			t.Error(tc.ttl, "forgotten early")
		}
		expect(t, tab, 1, now+tc.want+1)
		if tab.Expire(now + tc.want + 1); tab.Len() != 0 {
			t.Error(tc.ttl, "not forgotten")
		}
	}
}

func TestLaterAnswerNeverShortens(t *testing.T) {
	tab := New(Config{})
	resolve(tab, tell(600, 1, 1, "a.example"), 0)
	resolve(tab, tell(60, 1, 1, "a.example"), time.Second)
	expect(t, tab, 1, 600*time.Second, "a.example")
}

func TestManyAddresses(t *testing.T) {
	tab := New(Config{})
	resolve(tab, tell(60, 0, 200, "a.example"), 0)
	for i := range 200 {
		expect(t, tab, i, 0, "a.example")
	}
}

func TestAllNamesOfAChain(t *testing.T) {
	tab := New(Config{})
	chain := []string{"www.a.example", "a.cdn.example", "edge.cdn.example"}
	resolve(tab, tell(60, 1, 2, chain...), 0)
	resolve(tab, tell(60, 2, 1, "www.b.example", "edge.cdn.example"), 0)
	expect(t, tab, 1, 0, chain...)
	expect(t, tab, 2, 0, append(chain, "www.b.example")...)
}

func TestBothFamilies(t *testing.T) {
	tab := New(Config{})
	six := netip.MustParseAddr("2001:db8::1")
	resolve(tab, &Answer{Names: [][]byte{[]byte("a.example")}, Addrs: []netip.Addr{six}}, 0)
	resolve(tab, tell(60, 1, 1, "a.example"), 0)
	mapped := netip.AddrFrom16(addr(1).As16())
	for _, a := range []netip.Addr{six, six.WithZone("eth0"), addr(1), mapped} {
		if got := tab.Lookup(a, 0, nil); !slices.Equal(got, []string{"a.example"}) {
			t.Error(a, got)
		}
	}
}

// An answer may be cut, or say that there is no address: it is an answer all the same.
func TestAnswerWithoutAddresses(t *testing.T) {
	tab := New(Config{})
	if !resolve(tab, tell(60, 1, 0, "a.example"), 0) || tab.Len() != 0 {
		t.Error("not taken")
	}
}

func TestConnectionsKeepTheName(t *testing.T) {
	tab := New(Config{})
	resolve(tab, tell(60, 1, 1, "a.example"), 0)
	kept := tab.Lookup(addr(1), 0, nil)
	tab.Close()
	if !slices.Equal(kept, []string{"a.example"}) {
		t.Error(kept)
	}
}

func TestQuestionsGiveWay(t *testing.T) {
	account := budget.New(1<<20, 0, nil)
	tab := New(Config{Account: account})
	for i := range 3 * MaxQuestions {
		tab.Asked(ask(fmt.Sprint(i)), 0)
	}
	if n := account.Used(); n != int64(MaxQuestions*questionSize) {
		t.Error(n, "bytes for questions")
	}
	first, last := fmt.Sprint(2*MaxQuestions-1), fmt.Sprint(2*MaxQuestions)
	if tab.Answered(ask(first), tell(60, 1, 1, first), 0) ||
		!tab.Answered(ask(last), tell(60, 1, 1, last), 0) {
		t.Error("not the oldest gave way")
	}
}

func TestLeastLatelyUsedGivesWay(t *testing.T) {
	account := budget.New(20_000, 0, nil)
	tab := New(Config{Account: account})
	for i := range 1000 {
		if !resolve(tab, tell(60, i, 1, fmt.Sprintf("n%d.example", i)), 0) {
			t.Fatal(i)
		}
		expect(t, tab, 0, 0, "n0.example")
		expect(t, tab, i, 0, fmt.Sprintf("n%d.example", i))
	}
	if n := tab.Len(); n < 20 || n > 200 {
		t.Error(n, "addresses")
	}
	tab.Close()
	if account.Used() != 0 {
		t.Error(account.Used())
	}
}

func TestBounds(t *testing.T) {
	tab := New(Config{})
	for i := range MaxAddrs + 100 {
		resolve(tab, tell(60, i, 1, "a.example"), 0)
	}
	if tab.Len() != MaxAddrs {
		t.Error(tab.Len(), "addresses")
	}
	for i := range 2 * chainsPerAddr {
		resolve(tab, tell(60, 1<<20, 1, fmt.Sprintf("n%d.example", i)), time.Duration(i))
	}
	if got := tab.Lookup(addr(1<<20), 0, nil); len(got) != chainsPerAddr {
		t.Error(len(got), "names")
	}
	long := slices.Repeat([]string{"x"}, 99)
	long[0] = "long.example"
	resolve(tab, tell(60, 7, 1, long...), 0)
	expect(t, tab, 7, 0, "long.example", "x")
}

func TestNoMemory(t *testing.T) {
	for _, bytes := range []int64{0, 100, 300, 400} {
		account := budget.New(bytes, 0, nil)
		tab := New(Config{Account: account})
		resolve(tab, tell(60, 0, 100, strings.Repeat("x", 250)), 0)
		if account.Used() > bytes {
			t.Error(account.Used(), "of", bytes)
		}
		if tab.Close(); account.Used() != 0 {
			t.Error(account.Used())
		}
	}
}

// modelled is what a table without bounds would have.
type modelled map[netip.Addr]map[string]time.Duration

func (m modelled) add(a *Answer, now time.Duration) {
	until := now + min(max(time.Duration(a.TTL)*time.Second, MinTTL), MaxTTL)
	for _, addr := range a.Addrs {
		if m[addr] == nil {
			m[addr] = make(map[string]time.Duration)
		}
		for _, name := range a.Names {
			m[addr][string(name)] = max(m[addr][string(name)], until)
		}
	}
}

func (m modelled) names(a netip.Addr, now time.Duration) []string {
	var names []string
	for name, until := range m[a] {
		if until >= now {
			names = append(names, name)
		}
	}
	return names
}

func FuzzAgainstAMap(f *testing.F) {
	f.Add([]byte{1, 2, 3, 1, 2, 3, 4, 5, 6, 200, 1, 1})
	f.Add([]byte("a table does what a map does"))
	f.Fuzz(againstAMap)
}

func TestAgainstAMap(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		in := make([]byte, 3*rnd.IntN(200))
		for i := range in {
			in[i] = byte(rnd.Uint32())
		}
		againstAMap(t, in)
	}
}

func againstAMap(t *testing.T, in []byte) {
	account := budget.New(1<<30, 0, nil)
	tab, want, now := New(Config{Account: account}), make(modelled), time.Duration(0)
	for ; len(in) >= 3; in = in[3:] {
		a := tell(uint32(in[0])*8, int(in[1]&15), int(in[2]&3)+1,
			fmt.Sprint(in[1]>>4&3), fmt.Sprint("c", in[2]>>4&1))
		switch {
		case in[0] < 200 && resolve(tab, a, now):
			want.add(a, now)
		case in[0] < 240:
			now += time.Duration(in[1]) * time.Second
		default:
			tab.Expire(now)
		}
		for i := range 20 {
			expect(t, tab, i, now, want.names(addr(i), now)...)
		}
	}
	tab.Close()
	if account.Used() != 0 || tab.Len() != 0 {
		t.Fatal(account.Used(), tab.Len())
	}
}

func TestSteadyTableAllocatesNothing(t *testing.T) {
	tab := New(Config{Account: budget.New(1<<20, 0, nil)})
	a, q := tell(60, 1, 100, "a.example", "c.example"), ask("a.example")
	names := make([]string, 0, 8)
	run := func() {
		tab.Asked(q, 0)
		tab.Answered(q, a, 0)
		names = tab.Lookup(addr(50), 0, names[:0])
		tab.Lookup(addr(999), 0, names[:0])
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 || len(names) != 2 {
		t.Error(n, "allocations", names)
	}
}

func BenchmarkLookup(b *testing.B) {
	tab := New(Config{})
	for i := range 1000 {
		resolve(tab, tell(60, i, 1, fmt.Sprintf("n%d.example", i), "c.example"), 0)
	}
	names := make([]string, 0, 8)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		names = tab.Lookup(addr(i%1000), 0, names[:0])
	}
}
