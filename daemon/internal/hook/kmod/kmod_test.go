// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// first and second are the state in both versions of the interface.
const (
	first = `interface: 1
enabled: 1
queue_num: 80
queue_count: 1
bypass: 0
directions: in,forward
protocols: icmp,udp,99
generation: 0
hooks: yes
seen: 12
exempt: 5
queued: 7
bypassed: 0
`
	second = `interface: 2
enabled: 1
queue_num: 80
queue_count: 1
bypass: 0
directions: in,forward
protocols: icmp,udp,99
generation: 63
hooks: yes
seen: 21
exempt: 5
queued: 7
bypassed: 0
settle_timeout: 1500
settle_size: 1048576
settled: 9
flows: 3
`
)

func selector() hook.Selector {
	return hook.Selector{
		Queue: 80, Directions: hook.In | hook.Forward, Protocols: []uint8{99, 1, 17, 1},
	}
}

func TestParse(t *testing.T) {
	settling := selector()
	settling.Settle = hook.Settle{
		Generation: hook.MaxGeneration, Timeout: 1500 * time.Millisecond, Size: hook.MaxSettleSize,
	}
	for _, c := range []struct {
		text     string
		version  int
		counters hook.Counters
		selector hook.Selector
	}{
		{first, 1, hook.Counters{Queued: 7, Exempt: 5}, selector()},
		{second, 2, hook.Counters{Queued: 7, Exempt: 5, Settled: 9}, settling},
	} {
		s, err := parse([]byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if s.counters != c.counters || s.version != c.version {
			t.Errorf("version %d, counters %+v, want %d and %+v",
				s.version, s.counters, c.version, c.counters)
		}
		m := &module{settles: c.version >= settleInterface}
		for _, w := range m.settings(&c.selector) {
			if have := normal(w.name, s.values[w.name]); have != w.value {
				t.Errorf("version %d: %s: module shows %q, selector wants %q",
					c.version, w.name, have, w.value)
			}
		}
	}
}

// A generation means all of the settings that were written before it.
func TestSettleOrder(t *testing.T) {
	s := selector()
	s.Settle = hook.Settle{Generation: 1, Timeout: time.Second, Size: 1}
	var names []string
	for _, w := range (&module{settles: true}).settings(&s) {
		names = append(names, w.name)
	}
	want := []string{
		"queue_count", "queue_num", "bypass", "directions", "protocols",
		"settle_timeout", "settle_size", "generation",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestFirstInterfaceSettlesNothing(t *testing.T) {
	s := selector()
	s.Settle = hook.Settle{Generation: 1, Timeout: time.Second, Size: 1}
	m := &module{}
	if _, err := m.Arm(s); !errors.Is(err, hook.ErrNotSupported) {
		t.Errorf("armed with settled flows: %v, want %v", err, hook.ErrNotSupported)
	}
	for _, w := range m.settings(&s) {
		if w.name == "generation" || strings.HasPrefix(w.name, "settle") {
			t.Errorf("%s is written to a module that does not know it", w.name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"no version":        "enabled: 1\n",
		"no colon":          "interface: 1\nenabled\n",
		"negative counter":  strings.Replace(first, "queued: 7", "queued: -7", 1),
		"a counter missing": strings.Replace(first, "exempt: 5\n", "", 1),
		"nothing settled":   strings.Replace(second, "settled: 9\n", "", 1),
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	newer, err := parse([]byte("interface: 3\n"))
	if err != nil || newer.version != 3 {
		t.Errorf("a newer module: version %d, %v", newer.version, err)
	}
}

func TestEverythingIsAll(t *testing.T) {
	for _, w := range (&module{}).settings(&hook.Selector{Directions: hook.AllDirections}) {
		if (w.name == "directions" || w.name == "protocols") && w.value != "all" {
			t.Errorf("%s: %q, want all", w.name, w.value)
		}
	}
}

func TestParseDep(t *testing.T) {
	index := parseDep([]byte("kernel/net/x_tables.ko:\n" +
		"kernel/net/ipv6/nf-defrag-ipv6.ko.xz: kernel/lib/a.ko kernel/lib/b.ko\nno colon\n"))
	want := depIndex{
		"x_tables": {file: "kernel/net/x_tables.ko", needs: []string{}},
		"nf_defrag_ipv6": {
			file:  "kernel/net/ipv6/nf-defrag-ipv6.ko.xz",
			needs: []string{"kernel/lib/a.ko", "kernel/lib/b.ko"},
		},
	}
	if diff := cmp.Diff(want, index, cmp.AllowUnexported(depEntry{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseDepends(t *testing.T) {
	info := []byte("license=GPL\x00depends=nf_defrag_ipv6,nf_defrag_ipv4\x00name=nsqueue\x00")
	if diff := cmp.Diff([]string{"nf_defrag_ipv6", "nf_defrag_ipv4"}, parseDepends(info)); diff != "" {
		t.Error(diff)
	}
	if got := parseDepends([]byte("depends=\x00name=x\x00")); got != nil {
		t.Errorf("no dependencies: %v", got)
	}
}

func TestLoadFileSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	noModule := filepath.Join(dir, "nsqueue.ko")
	if err := os.WriteFile(noModule, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadFile(dir, noModule); err == nil || !strings.Contains(err.Error(), "modules.dep") {
		t.Errorf("without modules.dep: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loadFile(dir, ""); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("not installed: %v", err)
	}
	if err := loadFile(dir, noModule); err == nil || !strings.Contains(err.Error(), "read module") {
		t.Errorf("not a module: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(first))
	f.Add([]byte(second))
	f.Fuzz(func(_ *testing.T, b []byte) {
		s, err := parse(b)
		if err == nil {
			normal("protocols", s.values["protocols"])
		}
	})
}

func FuzzModuleFiles(f *testing.F) {
	f.Add([]byte("a.ko: b.ko\n"), []byte("depends=a,b\x00"))
	f.Fuzz(func(_ *testing.T, dep, info []byte) {
		parseDep(dep)
		parseDepends(info)
	})
}

// Where the module was loaded again, its counters have begun anew.
func TestCountersOfReloadedModule(t *testing.T) {
	before := hook.Counters{Queued: 10, Exempt: 20, Settled: 30}
	for _, c := range []struct{ now, want hook.Counters }{
		{hook.Counters{Queued: 10, Exempt: 20, Settled: 30}, hook.Counters{}},
		{hook.Counters{Queued: 11, Exempt: 22, Settled: 33}, hook.Counters{Queued: 1, Exempt: 2, Settled: 3}},
		{hook.Counters{Queued: 40, Exempt: 19, Settled: 30}, hook.Counters{Queued: 40, Exempt: 19, Settled: 30}},
		{hook.Counters{Queued: 41, Exempt: 50, Settled: 31}, hook.Counters{Queued: 41, Exempt: 50, Settled: 31}},
	} {
		if got := since(&before, c.now); got != c.want {
			t.Errorf("%+v: grown by %+v, want %+v", c.now, got, c.want)
		}
	}
}
