// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func rulesOf(name string, head string, rules ...string) string {
	return set(name, append(strings.Split(head, "\n"), append([]string{"rules:"}, rules...)...)...)
}

func TestDecide(t *testing.T) {
	program := mustCompile(t,
		rulesOf("first", "priority: 1\ndefault: next",
			`- {name: count, when: server.port == 443, action: count}`,
			`- {name: mark, when: server.port == 443, action: mark, mark: 0x10/0xf0}`,
			`- {name: leave, when: server.port == 22, action: next}`,
			`- {name: telnet, when: "server.port in [22, 23]", action: drop}`),
		rulesOf("audit", "priority: 2\nmode: Audit\ndefault: reject",
			`- {name: ok, when: server.port == 80, action: accept}`,
			`- {name: say, when: server.port == 443, action: log}`),
		rulesOf("last", "priority: 3\ndefault: accept",
			`- {name: sni, when: tls.sni == "x", action: reject, settle: false}`))
	list := program.Fold(&Pod{})
	for _, c := range []struct {
		port    int64
		known   Stage
		verdict Verdict
		by      string
		effects []string
	}{
		{443, Packet, Undecided, "last/sni", []string{"first/count", "first/mark", "audit/say", "audit/default"}},
		{443, Everything, Rejected, "last/sni", []string{"first/count", "first/mark", "audit/say", "audit/default"}},
		{22, Everything, Rejected, "last/sni", []string{"audit/default"}},
		{23, Packet, Dropped, "first/telnet", nil},
		{80, Everything, Rejected, "last/sni", []string{"audit/ok"}},
	} {
		f, p := &Flow{Known: c.known, Pod: &Pod{}, ServerPort: c.port, TLSServerName: "x"}, &Progress{}
		got := list.Decide(f, p)
		var effects []string
		for _, e := range p.Effects {
			effects = append(effects, e.Name())
			if e.Audit != (e.Set.Name == "audit") {
				t.Errorf("%s audits: %v", e.Name(), e.Audit)
			}
		}
		if got.Verdict != c.verdict || got.Name() != c.by {
			t.Errorf("port %d: %v by %s", c.port, got.Verdict, got.Name())
		}
		if diff := cmp.Diff(c.effects, effects); diff != "" {
			t.Errorf("port %d: %s", c.port, diff)
		}
		// Each effect is once a flow, however often the flow is looked at.
		p.Again()
		if list.Decide(f, p); len(p.Effects) != 0 {
			t.Errorf("port %d: effects again: %v", c.port, p.Effects)
		}
	}
}

func TestMidstream(t *testing.T) {
	list := mustCompile(t, rulesOf("a", "midstream: judge", `- {name: r, when: server.port == 1, action: drop}`),
		rulesOf("b", "default: reject")).Fold(&Pod{})
	f := &Flow{Known: Everything, Pod: &Pod{}, Midstream: true, ServerPort: 1}
	if got := list.Decide(f, &Progress{}); got.Name() != "a/r" {
		t.Errorf("it is judged by %q", got.Name())
	}
	f.ServerPort = 2
	if got := list.Decide(f, &Progress{}); got.Verdict != Accepted || got.Name() != "b/midstream" {
		t.Errorf("%v by %q", got.Verdict, got.Name())
	}
	f.Midstream = false
	if got := list.Decide(f, &Progress{}); got.Verdict != Rejected || got.Name() != "b/default" {
		t.Errorf("%v by %q", got.Verdict, got.Name())
	}
}

// A request after the first can be decided otherwise only where a rule reads requests
// and was not decided before.
func TestFinal(t *testing.T) {
	list := mustCompile(t, rulesOf("a", "default: accept",
		`- {name: ssh, when: server.port == 22, action: accept}`,
		`- {name: path, when: http.path == "/x" && server.port == 80, action: reject}`)).Fold(&Pod{})
	for port, want := range map[int64]bool{22: true, 80: false, 81: true} {
		f := &Flow{Known: Everything, Pod: &Pod{}, ServerPort: port}
		if got := list.Final(f, HTTP); got != want || f.Known != Everything {
			t.Errorf("port %d: final: %v", port, got)
		}
	}
}

func TestNoRules(t *testing.T) {
	got := mustCompile(t).Fold(&Pod{}).Decide(&Flow{Pod: &Pod{}}, &Progress{})
	if got.Verdict != Accepted || got.Name() != "" || !got.Settle() {
		t.Errorf("%v", got)
	}
}

func TestNoAllocations(t *testing.T) {
	list := mustCompile(t, sandboxes).Fold(sandbox())
	f, p := tlsFlow(sandbox(), "www.mirror.example.com"), &Progress{}
	f.ServerNames = []string{"a.example", "b.example"}
	f.Known |= TLS
	if n := testing.AllocsPerRun(100, func() {
		p.Reset()
		if list.Decide(f, p).Verdict != Rejected || list.Final(f, HTTP) != true {
			t.Error("another decision")
		}
	}); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
	long := mustCompile(t, manyRules(1000)).Fold(&Pod{})
	if n := testing.AllocsPerRun(100, func() {
		p.Reset()
		f.Known = Packet | App
		if long.Decide(f, p).Verdict != Undecided || long.Final(f, HTTP) {
			t.Error("another decision")
		}
		f.Known = Everything
		if long.Decide(f, p).Verdict != Accepted || !long.Final(f, 0) {
			t.Error("another decision")
		}
	}); n != 0 || long.index == nil {
		t.Errorf("%v allocations a decision of a long list", n)
	}
}

// many returns a set of n rules of the kinds that sets have, of which none is true.
func manyRules(n int) string {
	lines := make([]string, 0, n)
	kinds := []string{
		`server.port == %d`, `flow.protocol == "tcp" && server.port == %d`,
		`tls.sni == "n%d.blocked.example"`, `sets.names.contains(http.host) && server.port == %d`,
		`sets.nets.contains(server.ip) && server.port == %d`,
	}
	for i := range n {
		when := fmt.Sprintf(kinds[i%len(kinds)], 20_000+i)
		lines = append(lines, fmt.Sprintf("- {name: r%d, when: '%s', action: reject}", i, when))
	}
	return rulesOf("many", `sets: {names: {domains: ["*.blocked.example"]}, nets: {cidrs: [192.0.2.0/24]}}`, lines...)
}

// A list with an index decides as one without.
func TestIndex(t *testing.T) {
	random, indexes := rand.New(rand.NewPCG(7, 7)), 0
	for seed := range 40 {
		data := make([]byte, 1<<16)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		c := &choices{data: data}
		var lines []string
		for i := range 150 + c.pick(300) {
			when := c.key()
			for range c.pick(3) {
				when += " && " + c.key()
			}
			if c.pick(10) == 0 {
				when = c.question()
			}
			lines = append(lines, fmt.Sprintf("- {name: r%d, action: %s, when: '%s'}", i,
				c.of("accept", "drop", "reject", "log", "count", "log", "count", "log", "next"), when))
		}
		program := mustCompile(t, rulesOf("a", "default: drop\nmode: "+c.of("Enforce", "Audit")+"\ntrustAnnotations: true\n"+
			"sets: {names: {domains: ['*.blocked.example', x]}, nets: {cidrs: [10.0.0.0/8]}}", lines...),
			rulesOf("b", "default: "+c.of("reject", "next"), `- {name: r, when: server.port == 80, action: reject}`))
		for range 30 {
			f := randomFlow(c)
			plain, indexed := program.Fold(f.Pod), foldAs(program, f.Pod, true)
			plain = &List{program: program, numbers: plain.numbers}
			if program.lists = make(map[string]*List); seed%2 == 0 {
				program.indexFrom, program.groupFrom = indexFrom, groupFrom
				indexed = program.Fold(f.Pod)
			}
			sameDecisions(t, plain, indexed, f, c)
			if indexed.index != nil {
				indexes++
			}
		}
	}
	if indexes < 600 {
		t.Errorf("of 1200 lists %d have an index", indexes)
	}
}

func sameDecisions(t *testing.T, plain, indexed *List, f *Flow, c *choices) {
	t.Helper()
	var p, q Progress
	known := f.Known
	for _, known := range []Stage{known & Stage(c.pick(int(Everything)+1)), known, Everything} {
		f.Known = known
		a, b := plain.Decide(f, &p), indexed.Decide(f, &q)
		if a != b || !slices.Equal(p.Effects, q.Effects) || plain.Final(f, HTTP|DNS) != indexed.Final(f, HTTP|DNS) {
			t.Fatalf("%v by %s %v, with an index %v by %s %v\n%+v",
				a.Verdict, a.Name(), p.Effects, b.Verdict, b.Name(), q.Effects, f)
		}
	}
}

// Rules for other ports and names are not asked.
func TestIndexSkips(t *testing.T) {
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf(`- {name: r%d, when: 'server.port == %d && tls.sni == "n%d.example"', action: drop}`, i, 440+i%7, i))
	}
	list := mustCompile(t, rulesOf("a", "default: drop", lines...)).Fold(&Pod{})
	for known, want := range map[Stage]int{Packet: 145, Packet | App | TLS: 3, 0: 1002} {
		f := &Flow{Known: known, Pod: &Pod{}, ServerPort: 443, TLSServerName: "n10.example"}
		var c candidates
		c.start(list.index, list.program.seed, f, 0)
		asked := 0
		for i := c.next(0); i != none; i = c.next(i + 1) {
			asked++
		}
		// Two names may have one hash.
		if asked < want || asked > want+2 {
			t.Errorf("knowing %b it asks %d of 1002 steps, want %d", known, asked, want)
		}
	}
	f := &Flow{Known: Packet, Pod: &Pod{}, ServerPort: 443}
	if got := list.Decide(f, &Progress{}); got.Name() != "a/r3" {
		t.Errorf("the SYN waits for %q", got.Name())
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := mustCompile(b, manyRules(n)).Fold(&Pod{})
			f, p := tlsFlow(&Pod{}, "www.example.org"), &Progress{}
			f.Known = Everything
			b.ReportAllocs()
			for b.Loop() {
				p.Reset()
				list.Decide(f, p)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/rule")
		})
	}
}

func BenchmarkFold(b *testing.B) {
	program := mustCompile(b, manyRules(1000))
	for b.Loop() {
		program.Fold(&Pod{Namespace: "x"})
	}
}

// The first pod with these rules makes their list and its index.
func BenchmarkFoldFirst(b *testing.B) {
	program := mustCompile(b, manyRules(1000))
	for b.Loop() {
		clear(program.lists)
		program.Fold(&Pod{Namespace: "x"})
	}
}

func BenchmarkCompile(b *testing.B) {
	text := manyRules(1000)
	for b.Loop() {
		mustCompile(b, text)
	}
}
