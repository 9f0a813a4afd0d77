// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// ruled is a daemon with rules, of whose files one is broken.
func ruled() *apitest.Daemon {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &apitest.Daemon{
		Ruled: api.Rules{
			Directory: "/etc/nsqueue/rules.d", Loaded: &at, Files: []string{"a.yaml"},
			Errors: []api.RuleError{{File: "b.yaml", Line: 3, Column: 7, Message: "no"}},
			Sets: []api.RuleSet{{
				Name: "s", Priority: -1, Mode: "Audit", File: "a.yaml", Line: 2, Attachments: 4,
				Rules: []api.Rule{{Name: "r", Action: "drop", Line: 9, Hits: 5, LastHit: &at}},
			}},
			Flows: 6, Undecided: 2, Memory: 4096, Verdicts: map[string]uint64{"drop": 5},
		},
		RuledBy: []api.EffectiveRule{
			{Set: "s", Rule: "r", Action: "drop", Mode: "Audit", When: `tls.sni == "x"`},
		},
		Named: api.ObservedNames{
			Names: []api.ObservedName{{
				Namespace: "n", Pod: "p", App: "tls", Name: "x.example", Port: 443,
				Verdict: "reject", Count: 3, Last: at,
			}},
			Forgotten: 8,
		},
	}
}

func wantSame(t *testing.T, what string, want, got any, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// What a daemon answers about rules arrives whole, on root's socket and on the observers'.
// Only root's reloads.
func TestRules(t *testing.T) {
	d := ruled()
	ctx := t.Context()
	for socket, path := range map[string]string{
		"root": d.Start(t), "observers": d.StartObservers(t, -1),
	} {
		c := api.NewClient(path)
		rules, err := c.Rules(ctx)
		wantSame(t, socket+": rules", d.Ruled, rules, err)
		of, err := c.RulesOf(ctx, testKey())
		wantSame(t, socket+": rules of a pod", d.RuledBy, of, err)
		names, err := c.Names(ctx, 90*time.Minute)
		wantSame(t, socket+": names", d.Named, names, err)
		rules, err = c.ReloadRules(ctx)
		if socket == "root" {
			wantSame(t, "reload", d.Ruled, rules, err)
		} else if api.CodeOf(err) != api.CodeReadOnly {
			t.Errorf("observers reload: %v", err)
		}
	}
	calls := strings.Join(d.Calls(), "\n")
	for _, want := range []string{"1h30m0s", testKey().String()} {
		if strings.Count(calls, want) != 2 {
			t.Errorf("calls without %s:\n%s", want, calls)
		}
	}
	if strings.Count(calls, "reload rules") != 1 {
		t.Errorf("calls:\n%s", calls)
	}
}

// Lists that are empty are no nulls to programs in other languages.
func TestRulesEmpty(t *testing.T) {
	var d apitest.Daemon
	c := api.NewClient(d.Start(t))
	if of, err := c.RulesOf(t.Context(), testKey()); err != nil || of == nil {
		t.Errorf("rules of a pod: %v, %v", of, err)
	}
	if n, err := c.Names(t.Context(), 0); err != nil || n.Names == nil {
		t.Errorf("names: %v, %v", n, err)
	}
}

func TestRulesRefuse(t *testing.T) {
	d := ruled()
	socket := d.Start(t)
	for path, mentions := range map[string]string{
		"/v1/rules/names?since=soon":              "soon",
		"/v1/rules/names?since=-1h":               "-1h",
		"/v1/rules/names?since=5":                 "duration",
		"/v1/attachments/a%2Fb/eth0/rules":        "container ID",
		"/v1/attachments/abc/" + "e%20th0/rules":  "interface",
		"/v1/rules/names?since=9999999999999999h": "duration",
	} {
		c := dial(t, socket)
		if _, err := c.Write([]byte(request("GET", path, ""))); err != nil {
			t.Fatal(err)
		}
		code, msg, _ := c.receive()
		if code == 0 || !strings.Contains(msg, mentions) {
			t.Errorf("%s: code %d, %q; want %q", path, code, msg, mentions)
		}
	}
	if got := d.Calls(); got != nil {
		t.Errorf("calls %v", got)
	}
}

func TestRuleErrorString(t *testing.T) {
	e := api.RuleError{File: "/etc/a.yaml", Line: 3, Column: 7, Message: "no such set"}
	if got := e.String(); got != "/etc/a.yaml:3:7: no such set" {
		t.Error(got)
	}
}

// STATUS is an error where nothing is judged, and none where older rules still are.
func TestReadyByRules(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		rules *api.RulesState
		want  bool
	}{
		"no rules":   {nil, true},
		"in force":   {&api.RulesState{Loaded: &now}, true},
		"older ones": {&api.RulesState{Loaded: &now, Problem: "a.yaml:1:1: no"}, true},
		"none":       {&api.RulesState{Problem: "a.yaml:1:1: no"}, false},
	} {
		s := api.Status{FailurePolicy: api.Ignore, Rules: tt.rules}
		err := s.Ready()
		if (err == nil) != tt.want || err != nil && api.CodeOf(err) != api.CodeLimited {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRulesFrom(t *testing.T) {
	for want, s := range map[string]api.RulesState{
		"/a":     {Directory: "/a"},
		"/a, /b": {Directory: "/a", Directories: []string{"/a", "/b"}},
	} {
		if got := s.From(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
