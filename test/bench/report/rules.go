// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

// The rows of nsqueued with rules, and of nsqueued without.
const (
	RulesNone    = "accept-all"
	Rules10Open  = "rules-10-not-settled"
	Rules10      = "rules-10"
	Rules1000    = "rules-1000"
	RulesDNS     = "rules-100-dns"
	rulesThereof = "rules: "
)

// The metrics of rules.
const (
	TLSCPU = "tlsCPUPerConnection" // of nsqueued's process, in microseconds
	DNSCPU = "dnsCPUPerQuery"      // with its answer

	RejectP50      = "rejectP50Ms"
	RejectP99      = "rejectP99Ms"
	ReloadLost     = "reloadLost"
	ReloadUnseen   = "reloadUnseen"
	ReloadGap      = "reloadGapMs"
	CalmGap        = "calmGapMs" // without a reload
	CrowdRatio     = "crowdP99Ratio"
	RulesAttach    = "attachMoreMs"
	SettleAttach   = "attachSettlingMoreMs"
	DecidedBytes   = "decidedFlowBytes"
	UndecidedBytes = "undecidedFlowBytes"
	DecisionTime   = "decisionNsPerRule"
)

// Rules is nsqueued with rules.
type Rules struct {
	Rows []Row `json:"rows"`
	// Single has what is measured once.
	Single Row `json:"single"`
}

func ruleColumns() [][2]string {
	return [][2]string{
		{"saturated µs/packet", FloodCPU},
		{"packets/s", FloodRate},
		{"lost", FloodLost},
		{"TLS µs/connection", TLSCPU},
		{"DNS µs/query and answer", DNSCPU},
	}
}

// row returns the row of that name, nil where it was not measured.
func (r *Rules) row(name string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Name == name {
			return &r.Rows[i]
		}
	}
	return nil
}

func (r *Report) judgeRules() {
	for _, c := range []comparison{
		{
			what: "CPU per packet, saturated, 10 rules not settled, to accepting all",
			row:  Rules10Open, to: RulesNone, metric: FloodCPU, want: 1.08, stretch: 1.03,
		},
		{
			what: "CPU per TLS connection, 10 rules not settled, to accepting all",
			row:  Rules10Open, to: RulesNone, metric: TLSCPU, want: 1.15, stretch: 1.08,
		},
		{
			what: "CPU per TLS connection, 10 rules, to accepting all",
			row:  Rules10, to: RulesNone, metric: TLSCPU, want: 0.85, stretch: 0.7,
		},
		{
			what: "CPU per TLS connection, 1,000 rules, to 10 rules",
			row:  Rules1000, to: Rules10, metric: TLSCPU, want: 1.15, stretch: 1.05,
		},
		{
			what: "CPU per DNS query and answer, 100 rules, to accepting all",
			row:  RulesDNS, to: RulesNone, metric: DNSCPU, want: 1.15,
		},
	} {
		row, to := r.Rules.row(c.row), r.Rules.row(c.to)
		if row == nil || to == nil {
			continue
		}
		got := Ratio(row.Metrics[c.metric], to.Metrics[c.metric])
		if len(got.Rounds) > 0 {
			r.Targets = append(r.Targets, Target{
				What: rulesThereof + c.what, Got: got, Want: c.want, Stretch: c.stretch,
			})
		}
	}
	r.judgeSingle()
}

func (r *Report) judgeSingle() {
	for _, c := range []comparison{
		{what: "ns a rule that is asked, hot", metric: DecisionTime, want: 25, stretch: 15},
		{what: "attach with 1,000 rules, ms on top", metric: RulesAttach, want: 1},
		{what: "attach where flows settle, ms on top", metric: SettleAttach, informative: true},
		{what: "undecided flow, bytes beside its own", metric: UndecidedBytes, want: 2048},
		{what: "decided flow of 65,536, bytes", metric: DecidedBytes, want: 96},
		{what: "reload of 1,000 under load, packets lost", metric: ReloadLost},
		{what: "reload of 1,000 under load, packets unseen", metric: ReloadUnseen},
		{what: "reload of 1,000 under load, longest gap, ms", metric: ReloadGap, informative: true},
		{what: "client told of a reject, p50 ms", metric: RejectP50, informative: true},
		{what: "client told of a reject, p99 ms", metric: RejectP99, want: 5},
		{
			what:   "round trip p99 beside a pod with many undecided flows, to that before",
			metric: CrowdRatio, want: 2,
		},
	} {
		if got := r.Rules.Single.Metrics[c.metric]; len(got.Rounds) > 0 {
			r.Targets = append(r.Targets, Target{
				What: rulesThereof + c.what, Got: got, Want: c.want, Stretch: c.stretch,
				Informative: c.informative,
			})
		}
	}
	single := r.Rules.Single.Metrics
	if more := minus(single[ReloadGap], single[CalmGap]); len(more.Rounds) > 0 {
		r.Targets = append(r.Targets, Target{
			What: rulesThereof + "reload of 1,000 under load, longest gap, ms more than without",
			Got:  more, Want: 5,
		})
	}
}

func (r *Rules) facts() []string {
	calm, ok := r.Single.Metrics[CalmGap]
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf(
		"The longest gap under the same load without a reload: %s ms.", number(calm.Median))}
}
