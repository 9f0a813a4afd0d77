// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rounds []float64
		want   string
	}{
		{"none", nil, "–"},
		{"one", []float64{1.234}, "1.23"},
		{"odd", []float64{3, 1, 2}, "2.00 (1.00–3.00)"},
		{"even", []float64{4, 1, 2, 3}, "2.50 (1.00–4.00)"},
		{"equal", []float64{0, 0}, "0"},
		{"large", []float64{123456.7}, "123457"},
		{"small", []float64{0.00123}, "0.0012"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := SpreadOf(tc.rounds).String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestRatioIsTakenRoundByRound(t *testing.T) {
	// The second round was disturbed, for both.
	got := Ratio(SpreadOf([]float64{1, 20, 3}), SpreadOf([]float64{2, 40, 6}))
	if diff := cmp.Diff(SpreadOf([]float64{0.5, 0.5, 0.5}), got); diff != "" {
		t.Error(diff)
	}
	if got := Ratio(SpreadOf([]float64{1}), SpreadOf([]float64{0})); len(got.Rounds) != 0 {
		t.Errorf("ratio to 0 is %v, want none", got)
	}
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		name   string
		target Target
		want   string
	}{
		{"at the bound", Target{Got: single(1.25), Want: 1.25, Stretch: 1.1}, "met"},
		{"stretch", Target{Got: single(1.1), Want: 1.25, Stretch: 1.1}, "stretch met"},
		{"missed", Target{Got: single(1.26), Want: 1.25, Stretch: 1.1}, "NOT MET"},
		{"at least", Target{Got: single(0.9), Want: 0.9, AtLeast: true}, "met"},
		{"at least, missed", Target{Got: single(0.89), Want: 0.9, AtLeast: true}, "NOT MET"},
		{"below, at the bound", Target{Got: single(64), Want: 64, Below: true}, "NOT MET"},
		{"nothing lost", Target{Got: single(0)}, "met"},
		{"one lost", Target{Got: single(1)}, "NOT MET"},
		{"informative", Target{Got: single(9), Informative: true}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.target.Verdict(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// sample is a report with every part.
func sample() *Report {
	r := &Report{
		Machine: Machine{CPU: "a CPU", Command: "bench"}, Rounds: 1,
		Loss:  &Loss{Rate: 50_000, Seconds: 1, Sent: 10, Delivered: 9, CPUPerPacket: 1},
		Scale: &Scale{Pods: 20, FewPods: 10, Early: 100, Late: 120, Left: []string{"netns 1"}},
		Attach: []Timing{
			{Name: "a call", P50: 1000, P99: 2000, Max: 3000},
			{Name: PluginDel, P50: 4000, P99: 9000, Max: 9000},
		},
		Pauses: &Pauses{Times: []Timing{{Name: PauseHandOver, P99: 99_000}}},
	}
	for i, name := range []string{None, GoNFQ, Classic, Batch, Full, Settled} {
		row := Row{Name: name, Label: name}
		switch name {
		case None:
			row.Add(TCPRate, 10)
			row.Add(PingP50, 10)
		case Settled:
			row.Unavailable = "not in this build"
		default:
			for _, m := range []string{FloodCPU, PaceCPU, TCPRate, PingP50} {
				row.Add(m, float64(20-i))
			}
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

func TestJudgeTakesWhatIsThere(t *testing.T) {
	r := sample()
	r.Judge()
	// 6 for processor time, 2 for TCP, latency, loss, DEL, 4 for scale, 2 for pauses; the
	// settled row and the header-only one have no values.
	if len(r.Targets) != 17 {
		t.Errorf("got %d targets, want 17: %v", len(r.Targets), r.TargetTable())
	}
	empty := &Report{}
	empty.Judge()
	if len(empty.Targets) != 0 {
		t.Errorf("an empty report has targets: %v", empty.Targets)
	}
}

func TestJudgeRules(t *testing.T) {
	rules := &Rules{Rows: []Row{
		{Name: RulesNone, Label: "none"}, {Name: Rules10, Label: "ten"},
	}}
	rules.Rows[0].Add(TLSCPU, 200)
	rules.Rows[1].Add(TLSCPU, 100)
	rules.Single.Add(ReloadLost, 0)
	rules.Single.Add(RejectP99, 6)
	rules.Single.Add(CalmGap, 3)
	rules.Single.Add(ReloadGap, 7)
	r := &Report{Rules: rules}
	r.Judge()
	var got []string
	for i := range r.Targets {
		got = append(got, r.Targets[i].Got.String()+" "+r.Targets[i].Verdict())
	}
	if diff := cmp.Diff([]string{"0.500 stretch met", "0 met", "7.00 ", "6.00 NOT MET", "4.00 met"}, got); diff != "" {
		t.Error(diff)
	}
	if len(r.RuleTable()) != 3 || len(r.Facts()) != 1 {
		t.Errorf("table %v, facts %v", r.RuleTable(), r.Facts())
	}
}

// Each round is compared with its own, and a packet has half of what a round trip has more.
func TestJudgeInspectors(t *testing.T) {
	r := &Report{}
	for name, v := range map[string][2]float64{
		InspectorsNone: {1, 50}, InspectorRow("messages", 64): {1.5, 130},
		InspectorRow("messages", 1): {9, 300}, ReaderBatch: {1, 50}, ReaderAlone: {4, 60},
		ReaderBehind: {8, 90},
	} {
		row := Row{Name: name, Label: name}
		row.Add(FloodCPU, v[0])
		row.Add(PingP50, v[1])
		r.Inspectors = append(r.Inspectors, row)
	}
	r.Judge()
	var got []string
	for i := range r.Targets {
		got = append(got, r.Targets[i].Got.String()+" "+r.Targets[i].Verdict())
	}
	want := []string{"9.00 ", "1.50 ", "1.50 met", "0.375 stretch met", "40.0 met", "2.00 NOT MET"}
	if diff := cmp.Diff(want, got); diff != "" || len(r.InspectorTable()) != 7 {
		t.Error(diff)
	}
}

func TestPrintAndReadBack(t *testing.T) {
	r := sample()
	r.Judge()
	var out bytes.Buffer
	r.Print(&out)
	for _, want := range []string{"a CPU", "not in this build", "NOT MET", "Left behind: netns 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the print has no %q:\n%s", want, &out)
		}
	}
	path := filepath.Join(t.TempDir(), "report.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
}
