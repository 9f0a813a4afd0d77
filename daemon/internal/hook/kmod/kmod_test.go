// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

const shown = `interface: 1
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

func TestParse(t *testing.T) {
	s, err := parse([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	if want := (hook.Counters{Queued: 7, Exempt: 5}); s.counters != want || s.version != 1 {
		t.Errorf("version %d, counters %+v, want 1 and %+v", s.version, s.counters, want)
	}
	selector := hook.Selector{
		Queue: 80, Directions: hook.In | hook.Forward, Protocols: []uint8{99, 1, 17, 1},
	}
	for _, w := range settings(&selector) {
		if have := normal(w.name, s.values[w.name]); have != w.value {
			t.Errorf("%s: module shows %q, selector wants %q", w.name, have, w.value)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"no version":        "enabled: 1\n",
		"no colon":          "interface: 1\nenabled\n",
		"negative counter":  strings.Replace(shown, "queued: 7", "queued: -7", 1),
		"a counter missing": strings.Replace(shown, "exempt: 5\n", "", 1),
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	newer, err := parse([]byte("interface: 2\n"))
	if err != nil || newer.version != 2 {
		t.Errorf("a newer module: version %d, %v", newer.version, err)
	}
}

func TestEverythingIsAll(t *testing.T) {
	for _, w := range settings(&hook.Selector{Directions: hook.AllDirections}) {
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
	f.Add([]byte(shown))
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
