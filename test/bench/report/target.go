// SPDX-License-Identifier: Apache-2.0

package report

// Target is a figure that nsqueued is to reach, and what it reached.
type Target struct {
	What string `json:"what"`
	// Got is a ratio unless What names a unit.
	Got     Spread  `json:"got"`
	Want    float64 `json:"want"`
	Stretch float64 `json:"stretch,omitempty"`
	// AtLeast makes Want a lower bound; otherwise it is an upper one.
	AtLeast bool `json:"atLeast,omitempty"`
	// Below makes the upper bound itself a miss.
	Below bool `json:"below,omitempty"`
	// Informative figures have no target.
	Informative bool `json:"informative,omitempty"`
}

// Verdict is met, stretch met, NOT MET, or empty for an informative figure.
func (t *Target) Verdict() string {
	switch {
	case t.Informative:
		return ""
	case t.Stretch != 0 && t.reaches(t.Stretch):
		return "stretch met"
	case t.reaches(t.Want):
		return "met"
	}
	return "NOT MET"
}

func (t *Target) reaches(bound float64) bool {
	switch {
	case t.AtLeast:
		return t.Got.Median >= bound
	case t.Below:
		return t.Got.Median < bound
	}
	return t.Got.Median <= bound
}

// Bound returns the target as text.
func (t *Target) Bound() string {
	sign := "≤ "
	switch {
	case t.Informative:
		return "–"
	case t.AtLeast:
		sign = "≥ "
	case t.Below:
		sign = "< "
	}
	if t.Stretch == 0 {
		return sign + number(t.Want)
	}
	return sign + number(t.Want) + " (" + number(t.Stretch) + ")"
}

// comparison is a target that compares two rows or, without the second one, has
// a row's own comparison.
type comparison struct {
	what, metric, row, to string
	want, stretch         float64
	atLeast, informative  bool
}

func comparisons() []comparison {
	const flood, pace, tcp = "CPU per packet, saturated, to ", "CPU per packet, 50,000/s, to ",
		"TCP throughput, to "
	const batch = "recvmmsg C, batch verdict"
	return []comparison{
		{what: flood + "go-nfqueue", metric: FloodCPU, to: GoNFQ, want: 1. / 8, stretch: 1. / 10},
		{what: flood + "classic C", metric: FloodCPU, to: Classic, want: 0.6, stretch: 0.5},
		{what: flood + batch, metric: FloodCPU, to: Batch, want: 1.25, stretch: 1.1},
		{what: pace + "go-nfqueue", metric: PaceCPU, to: GoNFQ, want: 1. / 6, stretch: 1. / 8},
		{what: pace + "classic C", metric: PaceCPU, to: Classic, want: 1, stretch: 0.7},
		{what: pace + batch, metric: PaceCPU, to: Batch, want: 1.8, stretch: 1.25},
		{
			what: tcp + batch, metric: TCPRate, to: Batch,
			want: 0.9, stretch: 0.97, atLeast: true,
		},
		{
			what: "packets/s saturated, watched, to nsqueued", metric: FloodRate, row: Watched,
			to: Full, want: 0.95, atLeast: true,
		},
		{
			what: "TCP throughput, watched, to nsqueued", metric: TCPBeside, row: Watched,
			want: 0.95, atLeast: true,
		},
		{
			what: "packets/s saturated, on a page, to nsqueued", metric: FloodRate, row: Page,
			to: Full, want: 0.95, atLeast: true,
		},
		{
			what: "TCP throughput, on a page, to nsqueued", metric: TCPBeside, row: Page,
			want: 0.95, atLeast: true,
		},
		{what: tcp + "no queue", metric: TCPRate, to: None, informative: true},
		{
			what: tcp + "no queue, header only", metric: TCPRate, row: Header, to: None,
			informative: true,
		},
		{
			what: tcp + "no queue, flows settled", metric: TCPBeside, row: Settled,
			want: 0.97, atLeast: true,
		},
	}
}

// Judge fills in the targets that the report's parts allow.
func (r *Report) Judge() {
	r.Targets = nil
	for _, c := range comparisons() {
		name := c.row
		if name == "" {
			name = Full
		}
		if got := r.compare(c.metric, name, c.to); len(got.Rounds) > 0 {
			r.Targets = append(r.Targets, Target{
				What: c.what, Got: got, Want: c.want, Stretch: c.stretch, AtLeast: c.atLeast,
				Informative: c.informative,
			})
		}
	}
	r.judgeLatency()
	if l := r.Loss; l != nil {
		r.Targets = append(r.Targets, Target{
			What: "packets lost at a steady rate, defaults",
			Got:  single(float64(l.Sent - l.Delivered)),
		})
	}
	r.judgeCalls()
	if s := r.Scale; s != nil {
		r.judgeScale(s)
	}
	if r.Rules != nil {
		r.judgeRules()
	}
	if len(r.Inspectors) > 0 {
		r.judgeInspectors()
	}
	if r.Pauses != nil {
		r.judgePauses()
	}
}

// judgeCalls looks at the calls that a runtime waits for.
func (r *Report) judgeCalls() {
	for _, t := range r.Attach {
		if t.Name == PluginAdd || t.Name == PluginDel {
			r.Targets = append(r.Targets, Target{
				What: t.Name + ", p50 ms", Got: single(float64(t.P50) / 1000), Want: 8,
			})
		}
	}
}

// judgePauses looks at what a hand-over costs the pods.
func (r *Report) judgePauses() {
	for _, t := range r.Pauses.Times {
		if t.Name == PauseHandOver {
			r.Targets = append(r.Targets, Target{
				What: t.Name + ", longest time without a packet, p99 ms",
				Got:  single(float64(t.P99) / 1000), Want: 100,
			})
		}
	}
	r.Targets = append(r.Targets, Target{
		What: "packets lost while one nsqueued follows another",
		Got:  single(float64(r.Pauses.Lost)),
	})
}

// compare returns the ratios of two rows, or what the first has where there is no
// second.
func (r *Report) compare(metric, name, to string) Spread {
	row, other := r.Row(name), r.Row(to)
	switch {
	case row == nil || to != "" && other == nil:
		return Spread{}
	case to == "":
		return row.Metrics[metric]
	}
	return Ratio(row.Metrics[metric], other.Metrics[metric])
}

// judgeLatency compares what the readers add to the way without a queue.
func (r *Report) judgeLatency() {
	none, ours, classic := r.Row(None), r.Row(Full), r.Row(Classic)
	if none == nil || ours == nil || classic == nil {
		return
	}
	added := func(row *Row) Spread { return minus(row.Metrics[PingP50], none.Metrics[PingP50]) }
	if got := Ratio(added(ours), added(classic)); len(got.Rounds) > 0 {
		r.Targets = append(r.Targets, Target{
			What: "added round trip p50, low load, to classic C", Got: got, Want: 1.2, Stretch: 1,
		})
	}
}

func (r *Report) judgeScale(s *Scale) {
	r.Targets = append(r.Targets,
		Target{
			What: "idle RSS per additional pod, KiB", Got: single(s.PerPod()),
			Want: 64, Stretch: 24, Below: true,
		},
		Target{
			What: "idle CPU with all pods, % of a processor", Got: single(s.IdleAll.CPUPercent),
			Want: 0.1, Below: true,
		},
		Target{
			What: "attach of the last ten pods to that around the 10th",
			Got:  single(s.Late / max(s.Early, 1)), Want: 1.5,
		},
		Target{What: "left behind after all pods are gone", Got: single(float64(len(s.Left)))},
	)
}

func single(v float64) Spread { return SpreadOf([]float64{v}) }
