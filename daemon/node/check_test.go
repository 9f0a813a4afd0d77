// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// checkable is a configuration whose files are in a directory of the test.
func checkable(t *testing.T) (Config, string) {
	t.Helper()
	dir := t.TempDir()
	c := DefaultConfig()
	c.Socket, c.StateDir = filepath.Join(dir, "nsqueued.sock"), dir
	return c, dir
}

// put writes a file.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// found returns the findings of a check that have the result, as "where: what".
func found(r *Report, check string, result api.FindingResult) []string {
	var list []string
	for _, f := range r.Findings {
		if f.Check == check && f.Result == result {
			list = append(list, f.Where+": "+f.What)
		}
	}
	return list
}

// Everything that is wrong with a configuration is told at once, and nothing is said
// about what nobody meant.
func TestCheckConfiguration(t *testing.T) {
	c, _ := checkable(t)
	c.Hook, c.LogLevel, c.Queue.Length = "iptables", "loud", 1<<30
	r := Check(&c, inspect.AcceptAll{})
	if len(r.Findings) != 3 || r.Wrong() != 3 {
		t.Fatalf("%+v, want three findings", r.Findings)
	}
	for _, word := range []string{"iptables", "loud", "length"} {
		if !slices.ContainsFunc(r.Findings, func(f api.Finding) bool {
			return f.Check == "configuration" && strings.Contains(f.What, word) && f.Remedy != ""
		}) {
			t.Errorf("%s is not among %+v", word, r.Findings)
		}
	}
	if err := r.Err(); !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "3 things") {
		t.Errorf("%v", err)
	}
}

func TestCheckPlaces(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *Config, dir string)
		where  string
		own    inspect.Inspector
	}{
		"no socket":    {func(c *Config, dir string) { c.Socket = filepath.Join(dir, "file") }, "socket", nil},
		"no directory": {func(c *Config, dir string) { c.StateDir = filepath.Join(dir, "file") }, "stateDir", nil},
		"below a file": {
			func(c *Config, dir string) { c.Socket = filepath.Join(dir, "file/sub/sock") }, "socket", nil,
		},
		"group": {func(c *Config, _ string) { c.Observe.Group = "no such group" }, "observe.group", nil},
		"two inspectors": {
			func(c *Config, dir string) { c.Rules.Directory = dir }, "rules.directory",
			inspect.Func(nil),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := checkable(t)
			put(t, filepath.Join(dir, "file"), "")
			tt.change(&c, dir)
			if tt.own == nil {
				tt.own = inspect.AcceptAll{}
			}
			r := Check(&c, tt.own)
			if r.Wrong() != 1 || r.Findings[0].Where != tt.where {
				t.Errorf("%+v, want one about %s", r.Findings, tt.where)
			}
		})
	}
}

func TestCheckRules(t *testing.T) {
	c, dir := checkable(t)
	c.Rules.Directory = filepath.Join(dir, "rules.d")
	r := Check(&c, inspect.AcceptAll{})
	if got := found(r, "rules", api.FindingWrong); len(got) != 1 {
		t.Errorf("no directory: %q", got)
	}
	put(t, filepath.Join(c.Rules.Directory, "a.yaml"), "kind: Nonsense\n")
	put(t, filepath.Join(c.Rules.Directory, "b.yaml"), "- \n")
	r = Check(&c, inspect.AcceptAll{})
	got := found(r, "rules", api.FindingWrong)
	if len(got) < 2 || !strings.Contains(strings.Join(got, "\n"), "a.yaml:1:") ||
		!strings.Contains(strings.Join(got, "\n"), "b.yaml:1:") {
		t.Errorf("two wrong files: %q", got)
	}
	for _, name := range []string{"a.yaml", "b.yaml"} {
		if err := os.Remove(filepath.Join(c.Rules.Directory, name)); err != nil {
			t.Fatal(err)
		}
	}
	c.Rules.Events.File = filepath.Join(dir, "none/eve.json")
	r = Check(&c, inspect.AcceptAll{})
	if got := found(r, "rules", api.FindingOK); len(got) != 1 {
		t.Errorf("no rules: %q", got)
	}
	if got := found(r, "rules", api.FindingWrong); len(got) != 1 ||
		!strings.Contains(got[0], "eve.json") {
		t.Errorf("no directory for events: %q", got)
	}
}

// What a daemon would refuse to start with is found before.
func TestCheckInspectors(t *testing.T) {
	outsider := func(c *Config, change func(*InspectorConfig)) {
		one := InspectorConfig{Name: "ids", Socket: filepath.Join(c.StateDir, "ids.sock")}
		change(&one)
		c.Inspectors = []InspectorConfig{one}
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		word   string
	}{
		"user": {func(c *Config) {
			outsider(c, func(one *InspectorConfig) { one.User = "nobody-of-that-name" })
		}, "nobody-of-that-name"},
		"group": {func(c *Config) {
			outsider(c, func(one *InspectorConfig) { one.Group = "none-of-that-name" })
		}, "none-of-that-name"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := checkable(t)
			tt.change(&c)
			r := Check(&c, inspect.AcceptAll{})
			got := found(r, checkConfiguration, api.FindingWrong)
			if len(got) != 1 || !strings.Contains(got[0], tt.word) {
				t.Errorf("%+v, want one about %s", r.Findings, tt.word)
			}
		})
	}
}

// A rule may leave flows to an inspector that there is, and to no other.
func TestCheckRulesOfInspectors(t *testing.T) {
	c, dir := checkable(t)
	c.Rules.Directory = filepath.Join(dir, "rules.d")
	put(t, filepath.Join(c.Rules.Directory, "a.yaml"), `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: a}
spec:
  rules:
    - {name: read, action: inspect, inspector: ids, when: "true"}
`)
	r := Check(&c, inspect.AcceptAll{})
	if got := found(r, "rules", api.FindingWrong); len(got) != 1 || !strings.Contains(got[0], "ids") {
		t.Errorf("no such inspector: %+v", r.Findings)
	}
	c.Inspectors = []InspectorConfig{{Name: "ids", Socket: filepath.Join(dir, "ids.sock")}}
	r = Check(&c, inspect.AcceptAll{})
	if got := found(r, "rules", api.FindingWrong); len(got) != 0 {
		t.Errorf("the inspector is there: %q", got)
	}
}

func TestCheckState(t *testing.T) {
	c, dir := checkable(t)
	put(t, filepath.Join(dir, "attachments/a@eth0.json"), "{")
	r := Check(&c, inspect.AcceptAll{})
	if got := found(r, "state", api.FindingWarning); len(got) != 1 {
		t.Errorf("a damaged file: %q", got)
	}
	put(t, filepath.Join(dir, "attachments/a@eth0.json"), `{"version":99}`)
	r = Check(&c, inspect.AcceptAll{})
	if got := found(r, "state", api.FindingWrong); len(got) != 1 ||
		!strings.Contains(got[0], "newer") {
		t.Errorf("a newer file: %q", got)
	}
}

// What a container hides is a warning: pods are inspected all the same. Only what makes
// inspecting impossible is wrong.
func TestCheckContainer(t *testing.T) {
	c, _ := checkable(t)
	k := &checker{Report: NewReport(), config: &c, place: api.Place{
		PIDNamespace: api.OfItsOwn, UserNamespace: api.OfItsOwn, AppArmor: "x (enforce)",
		Missing: []api.MissingCapability{
			{Name: "CAP_NET_ADMIN", For: "a", Required: true},
			{Name: "CAP_CHOWN", For: "b"},
		},
		NetnsDirs: []api.NetnsDir{
			{Path: "/run/netns", Follows: api.OfItsOwn},
			{Path: "/run/docker/netns", Follows: api.SightUnknown},
		},
	}}
	k.capabilities()
	k.container()
	if n := k.count(api.FindingWarning); n != 5 || k.Wrong() != 1 {
		t.Errorf("%+v, want five warnings and one that is wrong", k.Findings)
	}
	c.Observe.Group = "0"
	k.Report = NewReport()
	k.capabilities()
	if k.Wrong() != 2 {
		t.Errorf("%+v: the group's socket needs CAP_CHOWN", k.Findings)
	}
	k.Report = NewReport()
	k.place = api.Place{PIDNamespace: api.SightUnknown, UserNamespace: api.SightUnknown}
	k.capabilities()
	k.container()
	if k.count(api.FindingOK) != len(k.Findings) {
		t.Errorf("%+v: what is not known is nobody's fault", k.Findings)
	}
}

func TestSplit(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	both := fmt.Errorf("%w, because %w", a, b)
	for name, tt := range map[string]struct {
		err  error
		want []string
	}{
		"none":     {nil, nil},
		"one":      {a, []string{"a"}},
		"joined":   {errors.Join(a, errors.Join(b, c)), []string{"a", "b", "c"}},
		"wrapped":  {fmt.Errorf("in x: %w", errors.Join(a, b)), []string{"a", "b"}},
		"sentence": {both, []string{"a, because b"}},
		"within":   {errors.Join(both, c), []string{"a, because b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range split(tt.err) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A report is safe to show, and complete for programs.
func TestReportIsPrintable(t *testing.T) {
	r := NewReport()
	r.add(api.FindingWrong, "rules", "a\x1b[2J\nb", "what\nnow", "remedy\x07")
	var text, object strings.Builder
	if err := errors.Join(r.Write(&text, ReportText), r.Write(&object, ReportJSON)); err != nil {
		t.Fatal(err)
	}
	want := "wrong    rules         a\\x1b[2J\\nb: what\\nnow\n" +
		"                       -> remedy\\a\n"
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
	var back Report
	if err := json.Unmarshal([]byte(object.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, back); diff != "" {
		t.Error(diff)
	}
}

func TestRunRefusesAnUnknownCheck(t *testing.T) {
	t.Setenv(EnvCheck, "xml")
	c, _ := checkable(t)
	if err := Run(t.Context(), c, inspect.AcceptAll{}); err == nil ||
		!strings.Contains(err.Error(), "xml") {
		t.Errorf("%v", err)
	}
}
