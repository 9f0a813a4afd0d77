// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func ruled() api.Rules {
	last := testNow().Add(-5 * time.Minute)
	return api.Rules{
		Directory: "/etc/nsqueue/rules.d", Loaded: &last, Files: []string{"/etc/nsqueue/rules.d/a.yaml"},
		Errors: []api.RuleError{}, Verdicts: map[string]uint64{"accept": 7},
		Sets: []api.RuleSet{{
			Name: "sandbox", Priority: 100, Mode: "Enforce", File: "/etc/nsqueue/rules.d/a.yaml",
			Line: 1, Attachments: 2, Rules: []api.Rule{
				{Name: "names", Action: "accept", Line: 9, Hits: 7, LastHit: &last},
				{Name: "default", Action: "reject"},
			},
		}},
	}
}

func TestRulesList(t *testing.T) {
	d := apitest.Daemon{Ruled: ruled()}
	socket := d.Start(t)
	const want = `
SET      RULE     ACTION  MODE     HITS  LAST HIT  PODS
sandbox  names    accept  Enforce  7     5m        2
sandbox  default  reject  Enforce  0     -         2
`
	nsqueuectl(t.Context(), socket, "rules", "list").want(t, 0, want[1:], "")
	const wide = `
SET      RULE     ACTION  MODE     HITS  LAST HIT  PODS  PRIORITY  WHERE
sandbox  names    accept  Enforce  7     5m        2     100       /etc/nsqueue/rules.d/a.yaml:9
sandbox  default  reject  Enforce  0     -         2     100       /etc/nsqueue/rules.d/a.yaml
`
	nsqueuectl(t.Context(), socket, "rules", "list", "-o", "wide").want(t, 0, wide[1:], "")
	o := nsqueuectl(t.Context(), socket, "rules", "list", "-o", "json")
	var got api.Rules
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 {
		t.Fatalf("%+v: %v", o, err)
	}
	if diff := cmp.Diff(ruled(), got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	var none apitest.Daemon
	nsqueuectl(t.Context(), none.Start(t), "rules", "list").want(t, 0, "",
		"nsqueued has no rules: its configuration has no rules.directory.\n")
}

// Rules that are in force stay so, and what is wrong with files is told.
func TestRulesRefused(t *testing.T) {
	refused := api.RuleError{File: "a.yaml", Line: 7, Column: 11, Message: "there is no server.prt"}
	d := apitest.Daemon{Ruled: ruled()}
	d.Ruled.Errors = []api.RuleError{refused}
	socket := d.Start(t)
	o := nsqueuectl(t.Context(), socket, "rules", "list")
	if o.status != 0 || o.err != "refused: a.yaml:7:11: there is no server.prt\n" {
		t.Errorf("%+v", o)
	}
	const wrong = "nsqueuectl: nothing has changed: 1 error\n"
	nsqueuectl(t.Context(), socket, "rules", "reload").
		want(t, 1, "a.yaml:7:11: there is no server.prt\n", wrong)
	o = nsqueuectl(t.Context(), socket, "rules", "reload", "-o", "json")
	if o.status != 1 || o.err != wrong || !strings.Contains(o.stdout, `"column": 11`) {
		t.Errorf("%+v", o)
	}
}

func TestRulesReload(t *testing.T) {
	d := apitest.Daemon{Ruled: ruled()}
	nsqueuectl(t.Context(), d.Start(t), "rules", "reload").want(t, 0, "1 set in force\n", "")
	if diff := cmp.Diff([]string{"reload rules"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func named() api.ObservedNames {
	name := func(namespace, pod, app, name string, port int, verdict string) api.ObservedName {
		return api.ObservedName{
			Namespace: namespace, Pod: pod, App: app, Name: name, Port: port, Verdict: verdict,
			Count: 1, Last: testNow(),
		}
	}
	return api.ObservedNames{Forgotten: 3, Names: []api.ObservedName{
		name("agents", "a1", "dns", "b.example", 53, "accept"),
		name("agents", "a1", "tls", "b.example", 443, "accept"),
		name("agents", "a1", "quic", "a.example", 8443, "accept"),
		name("agents", "a2", "http", "c.example", 80, "accept"),
		name("agents", "a2", "tls", "d.example", 443, "reject"),
		name("agents", "a2", "dns", `a\027b.example`, 53, "accept"),
		name("web", "shop", "tls", "e.example", 443, "accept"),
	}}
}

const suggestedAgents = `---
apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata:
  name: suggested-agents
spec:
  default: reject
  mode: Audit
  pods:
    namespaces:
    - agents
  priority: 100
  rules:
  - action: accept
    name: incoming
    when: flow.direction == "in"
  - action: accept
    name: dns-names
    when: app.protocol == "dns" && server.port in [53] && sets.dnsNames.contains(dns.name)
  - action: accept
    name: tls-names
    when: app.protocol in ["tls", "quic"] && server.port in [443, 8443] && sets.tlsNames.contains(tls.sni)
  - action: accept
    name: http-names
    when: app.protocol == "http" && server.port in [80] && sets.httpNames.contains(http.host)
  sets:
    dnsNames:
      domains:
      - b.example
    httpNames:
      domains:
      - c.example
    tlsNames:
      domains:
      - a.example
      - b.example
`

func TestRulesSuggest(t *testing.T) {
	d := apitest.Daemon{Named: named()}
	socket := d.Start(t)
	suggest := func(args ...string) outcome {
		return nsqueuectl(t.Context(), socket, append([]string{"rules", "suggest"}, args...)...)
	}
	suggest("-n", "agents", "--since", "30m").want(t, 0, suggestedAgents,
		"1 name left out: refused\n1 text left out: no names of hosts\n"+
			"3 more names than nsqueued can remember\n")
	suggest("-n", "x").want(t, 0, "", "3 more names than nsqueued can remember\nNo names.\n")
	if diff := cmp.Diff([]string{"names 30m0s", "names 1h0m0s"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	o := suggest()
	offline(t, "check "+file(t, "all.yaml", o.stdout)).want(t, 0, "2 sets with 6 rules are right\n", "")
	o = suggest("--pod", "agents/a1")
	if !strings.Contains(o.stdout, `when: pod.name == "a1"`) || strings.Contains(o.stdout, "c.example") {
		t.Errorf("%+v", o)
	}
	suggested := file(t, "a1.yaml", o.stdout)
	offline(t, "check "+suggested).want(t, 0, "1 set with 3 rules are right\n", "")
	o = offline(t, "try --pod agents/a1 --out 192.0.2.1:443 --sni b.example "+suggested)
	if o.status != 0 || strings.Contains(o.stdout, "would reject") {
		t.Errorf("%+v", o)
	}
	o = suggest("--pod", "agents/a1", "-o", "json")
	if !json.Valid([]byte(o.stdout)) || o.status != 0 {
		t.Errorf("%+v", o)
	}
	if o := suggest("--since", "-1h"); o.status != 2 {
		t.Errorf("%+v", o)
	}
}

func TestRulesCompletion(t *testing.T) {
	d := apitest.Daemon{Attachments: attachments()}
	socket := d.Start(t)
	for line, want := range map[string]string{
		"rules try --pod d":     "default/busybox1",
		"rules try --app ":      "tls\nquic\nhttp\nh2\ndns\nssh\nunknown\nnone",
		"rules suggest --pod d": "default/busybox1",
		"rules r":               "reload\tHave nsqueued read its rules again",
	} {
		args := append([]string{"__complete"}, strings.Split(line, " ")...)
		o := nsqueuectl(t.Context(), socket, args...)
		got, _, _ := strings.Cut(o.stdout, "\n:")
		if o.status != 0 || got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
