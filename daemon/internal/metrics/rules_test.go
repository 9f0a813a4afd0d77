// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/metrics"
	"github.com/nsqueue/nsqueue/daemon/internal/policy"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// numbers are those of rules.
type numbers policy.Numbers

func (n *numbers) Numbers() policy.Numbers { return policy.Numbers(*n) }

func someRules() *numbers {
	return &numbers{
		Stats: rules.Stats{
			Pods: 2, Flows: 21, Undecided: 22, Memory: 23, Checksums: 24, Outside: 25,
			Conflicts: 26, Subflows: 27,
			Decisions: []rules.Hits{
				{Set: "names", Rule: "allowed", Action: "accept", Count: 30},
				{Set: "names", Rule: "default", Action: "reject", Audit: true, Count: 31},
				{Action: "accept", Count: 32},
			},
			Totals: []rules.Total{
				{Set: "names", Action: "accept", Count: 33},
				{Set: "names", Action: "reject", Audit: true, Count: 34},
				{Action: "accept", Count: 35},
			},
			Verdicts: map[string]uint64{"accept": 36, "reject": 37},
			Errors:   map[[2]string]uint64{{"tls", "memory"}: 38, {"", "midstream"}: 39},
		},
		Refused: map[api.Pod]uint64{
			{Namespace: "agents", Name: "a1"}: 40, {Namespace: "agents", Name: "a2"}: 0,
		},
		Accepted: 41, Failed: 42, Succeeded: true, Age: 43 * time.Second,
		Dropped: 44, Suppressed: 45,
	}
}

// ofRules returns the lines about rules.
func ofRules(t *testing.T, d metrics.Daemon) string {
	t.Helper()
	d.Source = &node{}
	m := metrics.New()
	m.Observe(d)
	return lines(scrape(t, m), "nsqueue_rules_")
}

func TestRules(t *testing.T) {
	const want = `nsqueue_rules_age_seconds 43
nsqueue_rules_checksum_drops_total 24
nsqueue_rules_conflicts_total 26
nsqueue_rules_decisions_total{action="accept",mode="Enforce",ruleset="names"} 33
nsqueue_rules_decisions_total{action="accept",mode="Enforce",ruleset="nsqueue"} 35
nsqueue_rules_decisions_total{action="reject",mode="Audit",ruleset="names"} 34
nsqueue_rules_events_dropped_total 44
nsqueue_rules_events_suppressed_total 45
nsqueue_rules_flows 21
nsqueue_rules_flows_undecided 22
nsqueue_rules_memory_bytes 23
nsqueue_rules_outside_drops_total 25
nsqueue_rules_parser_errors_total{error="memory",protocol="dns"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="h2"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="http"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="none"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="quic"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="ssh"} 0
nsqueue_rules_parser_errors_total{error="memory",protocol="tls"} 38
nsqueue_rules_parser_errors_total{error="memory",protocol="unknown"} 0
nsqueue_rules_parser_errors_total{error="midstream",protocol=""} 39
nsqueue_rules_reload_success 1
nsqueue_rules_reloads_total{result="failure"} 42
nsqueue_rules_reloads_total{result="success"} 41
nsqueue_rules_subflows_total 27
nsqueue_rules_verdicts_total{verdict="accept"} 36
nsqueue_rules_verdicts_total{verdict="drop"} 0
nsqueue_rules_verdicts_total{verdict="reject"} 37
`
	const perRule = `nsqueue_rules_hits_total{action="accept",mode="Enforce",rule="allowed",ruleset="names"} 30
nsqueue_rules_hits_total{action="accept",mode="Enforce",rule="end",ruleset="nsqueue"} 32
nsqueue_rules_hits_total{action="reject",mode="Audit",rule="default",ruleset="names"} 31
`
	const perPod = `nsqueue_rules_refused_total{namespace="agents",pod="a1"} 40
nsqueue_rules_refused_total{namespace="agents",pod="a2"} 0
`
	if diff := cmp.Diff(want, ofRules(t, metrics.Daemon{Rules: someRules()})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	all := ofRules(t, metrics.Daemon{Rules: someRules(), PerPod: true, PerRule: true})
	if diff := cmp.Diff(perRule, lines(all, "nsqueue_rules_hits")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(perPod, lines(all, "nsqueue_rules_refused")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(all) != len(want)+len(perRule)+len(perPod) {
		t.Errorf("there are other series, too:\n%s", all)
	}
}

func TestNoRulesHaveNoSeries(t *testing.T) {
	if text := ofRules(t, metrics.Daemon{PerPod: true, PerRule: true}); text != "" {
		t.Errorf("without rules there is\n%s", text)
	}
}

// Broken files at the start: no rules are in force, and their age would mislead.
func TestNoRulesInForce(t *testing.T) {
	text := ofRules(t, metrics.Daemon{Rules: &numbers{Failed: 1}})
	if strings.Contains(text, "age_seconds") || !strings.Contains(text, "reload_success 0\n") {
		t.Error(text)
	}
}

// Names of pods and sets come from outside. Two that are shortened alike share a series.
func TestStrangeNamesOfRules(t *testing.T) {
	long := strings.Repeat("a", 300)
	n := &numbers{Refused: map[api.Pod]uint64{
		{Name: long + "1"}: 1, {Name: long + "2"}: 2, {Name: "\xff\n"}: 3, {}: 4,
	}}
	n.Totals = []rules.Total{
		{Set: long + "1", Count: 1},
		{Set: long + "2", Count: 2},
		{Set: "nsqueue", Count: 3},
		{Count: 4},
	}
	text := ofRules(t, metrics.Daemon{Rules: n, PerPod: true})
	for _, want := range []string{
		`refused_total{namespace="",pod="` + long[:253] + `"} 3` + "\n",
		`decisions_total{action="",mode="Enforce",ruleset="` + long[:253] + `"} 3` + "\n",
		`decisions_total{action="",mode="Enforce",ruleset="nsqueue"} 7` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "rules_refused_total{"); n != 3 {
		t.Errorf("%d series of pods, want 3", n)
	}
}
