// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/metrics"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/internal/printable"
)

// node is a source with pods.
type node struct {
	pods []api.Attachment
	err  error
}

func (n *node) List(context.Context) ([]api.Attachment, error) { return n.pods, n.err }

func (n *node) Total() api.Counters {
	return api.Counters{
		Packets: 125, Bytes: 1, Rejected: 14, Untold: 15, Accepted: 100, Dropped: 10, Queued: 1, Settled: 2, Malformed: 3,
		InspectNanoseconds: 1500,
		Panics:             4, Overruns: 5, Flushed: 6, Errors: 7,
	}
}

func (n *node) Problems() []api.Problem {
	return []api.Problem{
		{FailurePolicy: api.Fail}, {FailurePolicy: api.Fail}, {FailurePolicy: api.Ignore},
	}
}

func (n *node) Orphans() uint64 { return 8 }

func (n *node) EventCounts() map[api.EventKind]uint64 {
	return map[api.EventKind]uint64{api.EventSecurity: 9}
}

func (n *node) ProgramRestarts() uint64 { return 16 }

func (n *node) Queues() registry.QueueTotals {
	return registry.QueueTotals{Waiting: 11, Fullest: .5, QueueFull: 12, SocketFull: 13}
}

func pods(n int) []api.Attachment {
	list := make([]api.Attachment, n)
	for i := range list {
		list[i] = api.Attachment{
			Key:  api.Key{ContainerID: fmt.Sprintf("%064x", i), Ifname: "eth0"},
			Pod:  api.Pod{Namespace: "default", Name: fmt.Sprintf("web-%d", i)},
			Hook: "nft", State: api.Active, FailurePolicy: api.Ignore,
			Counters: api.Counters{Packets: 6, Accepted: 2, Dropped: 1, Rejected: 3, Bytes: uint64(i)},
			Programs: []api.Program{{Name: "seed", Ready: true}},
		}
	}
	return list
}

func newMetrics(n *node, perPod bool) *metrics.Metrics {
	m := metrics.New()
	m.Observe(metrics.Daemon{
		Source: n, Hook: "nft", FailurePolicy: api.Ignore, Restarts: 10, PerPod: perPod,
		PerRule: true, Rules: someRules(), Inspectors: someInspectors,
		Handover: func() *api.Handover {
			return &api.Handover{
				Role: api.RoleActive, TakeOvers: 2, Refusals: 3,
				Peers: []api.HandoverPeer{{Role: api.RoleStandby}, {Role: api.RoleStandby}},
			}
		},
		Labels: func() *api.LabelsState {
			return &api.LabelsState{
				Source: api.LabelsNRI, Connected: true, Connections: 2, Pods: 7, Late: 1,
			}
		},
	})
	return m
}

// answer returns what Prometheus is answered.
func answer(m *metrics.Metrics) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).
		ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w
}

func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	w := answer(m)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// families returns what was scraped of our own, by name.
func families(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if !strings.HasPrefix(name, "nsqueue_") {
			delete(all, name)
		}
	}
	return all
}

// lines returns the lines of text that begin so.
func lines(text, prefix string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

func TestValues(t *testing.T) {
	m := newMetrics(&node{pods: pods(2)}, true)
	m.Attached(2*time.Millisecond, nil)
	m.Attached(time.Second, errors.New("no"))
	m.Detached(3*time.Millisecond, nil)
	text := scrape(t, m)
	for prefix, want := range map[string]string{
		"nsqueue_packets_total": `nsqueue_packets_total{verdict="accept"} 100
nsqueue_packets_total{verdict="drop"} 10
nsqueue_packets_total{verdict="queue"} 1
nsqueue_packets_total{verdict="reject"} 14
`,
		"nsqueue_bytes_total":              "nsqueue_bytes_total 1\n",
		"nsqueue_settled_packets_total":    "nsqueue_settled_packets_total 2\n",
		"nsqueue_untold_rejects_total":     "nsqueue_untold_rejects_total 15\n",
		"nsqueue_malformed_packets_total":  "nsqueue_malformed_packets_total 3\n",
		"nsqueue_inspect_seconds_total":    "nsqueue_inspect_seconds_total 1.5e-06\n",
		"nsqueue_inspector_panics_total":   "nsqueue_inspector_panics_total 4\n",
		"nsqueue_inspector_overruns_total": "nsqueue_inspector_overruns_total 5\n",
		"nsqueue_flushed_verdicts_total":   "nsqueue_flushed_verdicts_total 6\n",
		"nsqueue_queue_errors_total":       "nsqueue_queue_errors_total 7\n",
		"nsqueue_orphaned_packets_total":   "nsqueue_orphaned_packets_total 8\n",
		"nsqueue_events_total{kind=\"sec":  "nsqueue_events_total{kind=\"security\"} 9\n",
		"nsqueue_events_total{kind=\"rep":  "nsqueue_events_total{kind=\"repair\"} 0\n",
		"nsqueue_supervisor_restarts":      "nsqueue_supervisor_restarts_total 10\n",
		"nsqueue_supervisors": `nsqueue_supervisors{role="active"} 1
nsqueue_supervisors{role="standby"} 2
`,
		"nsqueue_supervisor_takeovers": `nsqueue_supervisor_takeovers_refused_total 3
nsqueue_supervisor_takeovers_total 2
`,
		"nsqueue_queue_waiting":    "nsqueue_queue_waiting_packets 11\n",
		"nsqueue_queue_fullness":   "nsqueue_queue_fullness_ratio 0.5\n",
		"nsqueue_program_restarts": "nsqueue_program_restarts_total 16\n",
		"nsqueue_programs":         "nsqueue_programs{inspector=\"seed\",state=\"reads\"} 2\n",
		"nsqueue_queue_dropped": `nsqueue_queue_dropped_packets_total{reason="queue"} 12
nsqueue_queue_dropped_packets_total{reason="socket"} 13
`,
		"nsqueue_problems": "nsqueue_problems{policy=\"Fail\"} 2\nnsqueue_problems{policy=\"Ignore\"} 1\n",
		"nsqueue_attachments": `nsqueue_attachments{hook="nft",policy="Ignore",state="active"} 2
`,
		"nsqueue_attach_duration_seconds_count": `nsqueue_attach_duration_seconds_count{result="failure"} 1
nsqueue_attach_duration_seconds_count{result="success"} 1
`,
		"nsqueue_detach_duration_seconds_sum": `nsqueue_detach_duration_seconds_sum{result="failure"} 0
nsqueue_detach_duration_seconds_sum{result="success"} 0.003
`,
		`nsqueue_attachment_packets_total{container_id="` + fmt.Sprintf("%064x", 1): fmt.Sprintf(
			`nsqueue_attachment_packets_total{container_id="%064[1]x",interface="eth0",namespace="default",pod="web-1",verdict="accept"} 2
nsqueue_attachment_packets_total{container_id="%064[1]x",interface="eth0",namespace="default",pod="web-1",verdict="drop"} 1
nsqueue_attachment_packets_total{container_id="%064[1]x",interface="eth0",namespace="default",pod="web-1",verdict="queue"} 0
nsqueue_attachment_packets_total{container_id="%064[1]x",interface="eth0",namespace="default",pod="web-1",verdict="reject"} 3
`, 1),
	} {
		if diff := cmp.Diff(want, lines(text, prefix)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", prefix, diff)
		}
	}
	for _, name := range []string{
		"go_goroutines", "process_resident_memory_bytes", "process_start_time_seconds",
		`nsqueue_build_info{goversion="go`, `nsqueue_daemon_info{hook="nft",policy="Ignore"} 1`,
	} {
		if lines(text, name) == "" {
			t.Errorf("%s is not there", name)
		}
	}
}

// Without series per pod, the answer does not grow with the pods.
func TestPerPodSeriesCanBeSwitchedOff(t *testing.T) {
	few, many := newMetrics(&node{pods: pods(1)}, false), newMetrics(&node{pods: pods(1000)}, false)
	count := func(text string) int { return strings.Count(text, "\nnsqueue_") }
	text := scrape(t, many)
	if strings.Contains(text, "nsqueue_attachment_") || strings.Contains(text, "web-1") {
		t.Error("there are series per pod")
	}
	if a, b := count(scrape(t, few)), count(text); a != b || a == 0 {
		t.Errorf("%d series with a pod, %d with 1,000", a, b)
	}
	if !strings.Contains(lines(text, "nsqueue_attachments"), "} 1000\n") {
		t.Error("1,000 attachments are not counted")
	}
}

// Names come from outside: none of them makes a scrape fail.
func TestStrangeNames(t *testing.T) {
	list := pods(7)
	list[4].Ifname, list[5].Ifname, list[6].Ifname = "\xfe", `\xfe`, "\xff"
	list[5].ContainerID, list[6].ContainerID = list[4].ContainerID, list[4].ContainerID
	list[4].Pod, list[5].Pod = api.Pod{Name: "\x1b[2J\u202e"}, api.Pod{Name: "\x1b[2J\u202e"}
	list[0].Pod = api.Pod{Namespace: strings.Repeat("é", 1000), Name: "a\"\n\\b"}
	list[1].Pod = api.Pod{Name: "\xff\xfe"}
	list[2].Pod, list[3].Pod = api.Pod{}, api.Pod{} // two without a name
	got := families(t, scrape(t, newMetrics(&node{pods: list}, true)))["nsqueue_attachment_bytes_total"]
	if n := len(got.GetMetric()); n != len(list) {
		t.Errorf("%d series, want %d", n, len(list))
	}
	for _, metric := range got.GetMetric() {
		for _, l := range metric.GetLabel() {
			if v := l.GetValue(); len(v) > 253 || printable.Line(v) != v {
				t.Errorf("label %s: %d bytes, %q", l.GetName(), len(v), v)
			}
		}
	}
}

// Without others to hand over to, there is nothing to say of them.
func TestNoOtherSupervisors(t *testing.T) {
	for _, handover := range []func() *api.Handover{nil, func() *api.Handover { return nil }} {
		m := metrics.New()
		m.Observe(metrics.Daemon{Source: &node{}, Handover: handover})
		text := scrape(t, m)
		if got := lines(text, "nsqueue_supervisors") + lines(text, "nsqueue_supervisor_take"); got != "" {
			t.Errorf("there is %q", got)
		}
	}
}

func TestSourceFails(t *testing.T) {
	w := answer(newMetrics(&node{err: errors.New("broken")}, true))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "broken") {
		t.Errorf("status %d: %.200s", w.Code, w.Body)
	}
}

// A scrape has each of many pods. How long that takes, the benchmark says.
func TestScrapeOf1000Pods(t *testing.T) {
	text := scrape(t, newMetrics(&node{pods: pods(1000)}, true))
	if n := strings.Count(text, "\nnsqueue_attachment_bytes_total{"); n != 1000 {
		t.Errorf("%d pods, want 1,000", n)
	}
}

func BenchmarkScrapeOf1000Pods(b *testing.B) {
	m := newMetrics(&node{pods: pods(1000)}, true)
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, m)
	}
}

func someInspectors() []api.InspectorState {
	return []api.InspectorState{{
		Name: "ids", Connected: true, Counters: api.InspectorCounters{Answered: 7, Late: 2},
	}}
}

// What became of packets for an inspector outside is told by its name.
func TestInspectors(t *testing.T) {
	text := scrape(t, newMetrics(&node{}, false))
	for _, want := range []string{
		`nsqueue_inspector_connected{inspector="ids"} 1`,
		`nsqueue_inspector_packets_total{inspector="ids",result="answered"} 7`,
		`nsqueue_inspector_packets_total{inspector="ids",result="late"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
}
