// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func reported() *Report {
	flow := func(client, name, verdict string) *Flow {
		return &Flow{
			Client: client, Server: "203.0.113.5:443", Protocol: "tcp", App: "tls",
			Answer: Answer{Name: name, Verdict: verdict, RuleSet: "s", Rule: "r", Packet: 4},
		}
	}
	r := &Report{Flows: []*Flow{
		flow("10.0.0.1:40000", "a.example", "accept"),
		flow("10.0.0.1:40000", "a.example", "reject"),
		flow("10.0.0.1:40001", "b.example", "reject"),
	}}
	r.Flows[2].Effects = []Effect{{RuleSet: "s", Rule: "say", Action: "log"}}
	r.Flows[2].Messages = []Message{
		{Answer: Answer{Name: "c.example", Verdict: "accept"}, Type: "A"},
		{Answer: Answer{Name: "c.example", Verdict: "reject"}, Type: "A", Response: true},
	}
	return r
}

func TestExpectation(t *testing.T) {
	for text, want := range map[string][]string{
		`flows: []`: nil,
		`{flows: [{name: b.example, verdict: reject}]}`:                                             nil,
		`{flows: [{name: b.example, verdict: accept, packet: 7}]}`:                                  {"flows[0]: 10.0.0.1:40001 to 203.0.113.5:443: verdict is reject, want accept", "flows[0]: 10.0.0.1:40001 to 203.0.113.5:443: packet is 4, want 7"},
		`{flows: [{name: x.example}]}`:                                                              {"flows[0]: there is no such flow"},
		`{flows: [{protocol: tcp, ruleSet: s}]}`:                                                    nil,
		`{flows: [{app: tls, verdict: reject}]}`:                                                    {"flows[0]: 10.0.0.1:40000 to 203.0.113.5:443: verdict is accept, want reject"},
		`{flows: [{name: a.example, verdict: accept}, {name: a.example, verdict: reject}]}`:         nil,
		`{flows: [{name: b.example}, {name: b.example}]}`:                                           {"flows[0]: there are 1 such flows, want 2", "flows[1]: there are 1 such flows, want 2"},
		`{flows: [{name: b.example, effects: [{ruleSet: s, rule: say, action: log}]}]}`:             nil,
		`{flows: [{name: b.example, effects: []}]}`:                                                 {"flows[0]: 10.0.0.1:40001 to 203.0.113.5:443: effects is [{s say log false}], want []"},
		`{flows: [{name: b.example, messages: [{}, {name: c.example, response: true, rule: x}]}]}`:  {`flows[0].messages[1]: message 2: rule is "", want x`},
		`{flows: [{name: b.example, messages: [{type: AAAA}]}]}`:                                    {"flows[0].messages: 10.0.0.1:40001 to 203.0.113.5:443: there are 2, want 1"},
		`{flows: [], foreign: 1, unreadable: 0}`:                                                    {"foreign is 0, want 1"},
		`{flows: [{pod: "", client: "10.0.0.1:40001", server: "203.0.113.5:443", error: timeout}]}`: {`flows[0]: 10.0.0.1:40001 to 203.0.113.5:443: error is "", want timeout`},
	} {
		e, err := ParseExpectation([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, e.Check(reported())); diff != "" {
			t.Errorf("%s: unmet (-want +got):\n%s", text, diff)
		}
	}
}

func TestExpectationErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "flows: want a list of flows",
		`flows: 1`:                      "cannot unmarshal",
		`{flows: [{verdict: allow}]}`:   `flows[0].verdict: want accept, inspect, drop, reject or undecided, got "allow"`,
		`{flows: [{verdicts: accept}]}`: "verdicts",
		`{flows: [{messages: [{verdict: x}]}]}`: "flows[0].messages[0].verdict: want accept, inspect, drop, " +
			`reject or undecided, got "x"`,
		"\x00": "control characters",
	} {
		if _, err := ParseExpectation([]byte(text)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

func FuzzParseExpectation(f *testing.F) {
	b, err := json.Marshal(reported())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("flows:\n- name: x\n  verdict: drop\n  messages: [{type: A, packet: 3}]\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if e, err := ParseExpectation(b); err == nil {
			e.Check(reported())
		}
	})
}
