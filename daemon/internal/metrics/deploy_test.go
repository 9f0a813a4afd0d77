// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
)

const (
	root     = "../../../"
	deployed = root + "deploy/observability/"
)

// known are the names that queries may have: ours with what histograms add, and
// those of the process.
func known(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{
		"process_start_time_seconds": true, "process_cpu_seconds_total": true,
		"process_resident_memory_bytes": true,
	}
	for name, family := range families(t, scrape(t, newMetrics(&node{pods: pods(1)}, true))) {
		if family.GetType() != dto.MetricType_HISTOGRAM {
			names[name] = true
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			names[name+suffix] = true
		}
	}
	return names
}

// A query for a metric that there is not never alerts, and shows nothing.
func TestQueriesAskForWhatThereIs(t *testing.T) {
	names := known(t)
	metric := regexp.MustCompile(`\b(nsqueue_[a-z_]+|process_[a-z_]+)`)
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		text, err := os.ReadFile(deployed + file)
		if err != nil {
			t.Fatal(err)
		}
		found := metric.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s asks for %s, which there is not", file, name)
			}
		}
	}
}

// Every alert fires in one of the rules' tests.
func TestEveryAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile(deployed + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(deployed + "alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) == 0 {
		t.Error("there is no alert")
	}
	for _, alert := range alerts {
		if !strings.Contains(string(tests), "alertname: "+alert[1]+"\n        exp_alerts:\n") {
			t.Errorf("%s is never expected to fire", alert[1])
		}
	}
}

// dashboard is what is checked of Grafana's.
type dashboard struct {
	Title, UID string
	Panels     []struct {
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(deployed + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.Title == "" || d.UID == "" || len(d.Panels) == 0 {
		t.Errorf("%+v", d)
	}
	taken := make(map[[2]int]string)
	for _, p := range d.Panels {
		if p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %+v", p)
		}
		for i := range p.GridPos.W * p.GridPos.H {
			at := [2]int{p.GridPos.X + i%p.GridPos.W, p.GridPos.Y + i/p.GridPos.W}
			if other := taken[at]; other != "" {
				t.Fatalf("panels %q and %q overlap", p.Title, other)
			}
			taken[at] = p.Title
		}
	}
}

// The page of the metrics has a row for each of them, in order, and no other.
func TestMetricsPage(t *testing.T) {
	all := families(t, scrape(t, newMetrics(&node{pods: pods(1)}, true)))
	var want strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		family := all[name]
		labels := []string{}
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", name,
			strings.ToLower(family.GetType().String()), strings.Join(labels, " "),
			family.GetHelp())
	}
	page, err := os.ReadFile(root + "docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), lines(string(page), "| `nsqueue_")); diff != "" {
		t.Errorf("docs/metrics.md (-want +got):\n%s\nwant:\n%s", diff, want.String())
	}
}
