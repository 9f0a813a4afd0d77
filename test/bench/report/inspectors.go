// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

// The rows of inspectors and programs outside nsqueued, and of what they are compared with.
const (
	InspectorsNone = "accept-all"
	ReaderBatch    = "reader-batch"
	ReaderAlone    = "reader-alone"
	ReaderBehind   = "reader-behind"
)

// InspectorBatches are how many packets a batch has at most.
func InspectorBatches() []int { return []int{1, 8, 64} }

// InspectorRow is the name of a row.
func InspectorRow(transport string, batch int) string {
	return fmt.Sprintf("%s-%d", transport, batch)
}

// InspectorTable returns the table of the rows with inspectors and programs outside.
func (r *Report) InspectorTable() Table {
	if len(r.Inspectors) == 0 {
		return nil
	}
	return Columns("who judges", [][2]string{
		{"saturated µs/packet, all processes", FloodCPU},
		{"packets/s", FloodRate},
		{"lost", FloodLost},
		{"round trip p50 µs", PingP50},
		{"p99 µs", PingP99},
	}, r.Inspectors)
}

// inspector returns the metric of a row.
func (r *Report) inspector(name, metric string) Spread {
	for i := range r.Inspectors {
		if r.Inspectors[i].Name == name {
			return r.Inspectors[i].Metrics[metric]
		}
	}
	return Spread{}
}

// judgeInspectors compares what is outside with what is not.
func (r *Report) judgeInspectors() {
	const what = "inspectors: CPU per packet, saturated, "
	inside := r.inspector(InspectorsNone, FloodCPU)
	for _, transport := range []string{"messages", "memfd"} {
		for _, batch := range InspectorBatches() {
			got := Ratio(r.inspector(InspectorRow(transport, batch), FloodCPU), inside)
			name := fmt.Sprintf("%s%s, %d a batch, to inside nsqueued", what, transport, batch)
			r.judgeInspector(Target{What: name, Got: got, Informative: true})
		}
	}
	messages := r.inspector(InspectorRow("messages", 64), FloodCPU)
	r.judgeInspector(Target{
		What: what + "messages, 64 a batch, to C with recvmmsg and batch verdicts",
		Got:  Ratio(messages, r.inspector(ReaderBatch, FloodCPU)), Want: 1.6, Stretch: 1.4,
	})
	alone := r.inspector(ReaderAlone, FloodCPU)
	r.judgeInspector(Target{
		What: what + "messages, 64 a batch, to C with libnetfilter_queue",
		Got:  Ratio(messages, alone), Want: 1, Stretch: 0.8,
	})
	for _, transport := range []string{"messages", "memfd"} {
		row := InspectorRow(transport, 64)
		more := minus(r.inspector(row, PingP50), r.inspector(InspectorsNone, PingP50))
		for i := range more.Rounds {
			more.Rounds[i] /= 2 // of two packets
		}
		r.judgeInspector(Target{
			What: fmt.Sprintf("inspectors: p50 added to a packet at 1,000 round trips/s, %s, µs",
				transport),
			Got: SpreadOf(more.Rounds), Want: 60,
		})
	}
	r.judgeInspector(Target{
		What: what + "a program behind nsqueued, to the program alone",
		Got:  Ratio(r.inspector(ReaderBehind, FloodCPU), alone),
		Want: 1.8, Stretch: 1.4,
	})
	r.judgeProgramAdd()
}

// judgeProgramAdd looks at what a runtime waits for longer.
func (r *Report) judgeProgramAdd() {
	p50 := make(map[string]int64)
	for _, t := range r.Programs {
		p50[t.Name] = t.P50
	}
	if p50[ProgramAdd] > 0 {
		r.judgeInspector(Target{
			What: "inspectors: plugin ADD with a C program, p50 ms beyond the plain one",
			Got:  single(float64(p50[ProgramAdd]-p50[ProgramlessAdd]) / 1000), Want: 150,
		})
	}
}

func (r *Report) judgeInspector(t Target) {
	if len(t.Got.Rounds) > 0 {
		r.Targets = append(r.Targets, t)
	}
}
