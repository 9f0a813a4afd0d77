// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is a heading and rows of equally many cells.
type Table [][]string

// columns are the metrics that the table shows.
func columns() [][2]string {
	return [][2]string{
		{"saturated µs/packet", FloodCPU},
		{"packets/s", FloodRate},
		{"lost", FloodLost},
		{"50,000/s µs/packet", PaceCPU},
		{"lost", PaceLost},
		{"TCP Gbit/s", TCPRate},
		{"TCP % CPU", TCPCPU},
		{"round trip p50 µs", PingP50},
		{"p99 µs", PingP99},
		{"µs/packet", PingCPU},
	}
}

// Contenders returns the table of the rows.
func (r *Report) Contenders() Table { return Columns("reader", columns(), r.Rows) }

// RuleTable returns the table of the rows with rules.
func (r *Report) RuleTable() Table {
	if r.Rules == nil {
		return nil
	}
	return Columns("nsqueued", ruleColumns(), r.Rules.Rows)
}

// Columns makes a table of rows, without columns in which no row has a value. Each column
// has its heading and its metric.
func Columns(what string, columns [][2]string, rows []Row) Table {
	head, keys := []string{what}, []string(nil)
	for _, c := range columns {
		for _, row := range rows {
			if _, ok := row.Metrics[c[1]]; ok {
				head, keys = append(head, c[0]), append(keys, c[1])
				break
			}
		}
	}
	t := Table{head}
	for _, row := range rows {
		cells := []string{row.Label}
		for _, k := range keys {
			cell := row.Metrics[k].String()
			cells = append(cells, cell)
		}
		if row.Unavailable != "" {
			cells[0] += " (" + row.Unavailable + ")"
		}
		t = append(t, cells)
	}
	return t
}

// TargetTable returns the targets and their verdicts.
func (r *Report) TargetTable() Table {
	t := Table{{"figure", "got", "target (stretch)", "verdict"}}
	for i := range r.Targets {
		x := &r.Targets[i]
		t = append(t, []string{x.What, x.Got.String(), x.Bound(), x.Verdict()})
	}
	return t
}

// Timings returns the table of all calls that were timed.
func (r *Report) Timings() Table {
	t := Table{{"call", "p50 ms", "p99 ms", "max ms"}}
	all := r.Attach
	if r.Scale != nil {
		all = append([]Timing{r.Scale.Attach, r.Scale.Detach}, all...)
	}
	for _, x := range append(all, r.Programs...) {
		t = append(t, []string{x.Name, ms(x.P50), ms(x.P99), ms(x.Max)})
	}
	return t
}

// PauseTable returns the table of the pauses.
func (r *Report) PauseTable() Table {
	if r.Pauses == nil {
		return nil
	}
	t := Table{{"longest time without a packet, where", "p50 ms", "p99 ms", "max ms"}}
	for _, x := range r.Pauses.Times {
		t = append(t, []string{x.Name, ms(x.P50), ms(x.P99), ms(x.Max)})
	}
	return t
}

func ms(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }

// Facts returns the report's single figures, a line each.
func (r *Report) Facts() []string {
	var lines []string
	if l := r.Loss; l != nil {
		lines = append(lines, fmt.Sprintf(
			"Loss with the defaults: %d packets/s for %.0f s, %d sent, %d delivered, %d lost, "+
				"%d of them by the queue, %s µs CPU per packet.", l.Rate, l.Seconds, l.Sent,
			l.Delivered, l.Sent-l.Delivered, l.QueueDropped, number(l.CPUPerPacket)))
	}
	if s := r.Scale; s != nil {
		lines = append(lines,
			fmt.Sprintf("nsqueued idle: %d KiB with no pod, %d KiB and %s %% CPU with %d, "+
				"%d KiB and %s %% CPU with %d, %d KiB after all were detached.",
				s.RSSEmpty, s.IdleFew.RSSKiB, number(s.IdleFew.CPUPercent), s.FewPods,
				s.IdleAll.RSSKiB, number(s.IdleAll.CPUPercent), s.Pods, s.RSSAfter),
			fmt.Sprintf("Attach around the 10th pod %s µs, the last ten of %d %s µs (medians).",
				number(s.Early), s.Pods, number(s.Late)))
		for _, l := range s.Left {
			lines = append(lines, "Left behind: "+l)
		}
	}
	if r.Rules != nil {
		lines = append(lines, r.Rules.facts()...)
	}
	return lines
}

// About returns what the run was made with, a line each.
func (r *Report) About() []string {
	m := &r.Machine
	return []string{
		fmt.Sprintf("%d × %s, %d MiB, Linux %s, %s", m.Processors, m.CPU, m.MemoryMiB, m.Kernel,
			m.Go),
		fmt.Sprintf("nsqueued %s, hook %s", m.Version, m.Hook),
		fmt.Sprintf("%s, %s: %s, %d rounds, load average %s before, %s after", m.Command, m.Date,
			m.Took, r.Rounds, m.LoadBefore, m.LoadAfter),
	}
}

// Print writes the report for a terminal.
func (r *Report) Print(w io.Writer) {
	fmt.Fprintln(w, strings.Join(r.About(), "\n"))
	for _, t := range []Table{
		r.Contenders(), r.RuleTable(), r.InspectorTable(), r.Timings(), r.PauseTable(),
		r.TargetTable(),
	} {
		if len(t) > 1 {
			fmt.Fprintln(w)
			t.Print(w)
		}
	}
	if facts := r.Facts(); len(facts) > 0 {
		fmt.Fprintln(w, "\n"+strings.Join(facts, "\n"))
	}
}

// Print writes the table for a terminal: the first column left, the others right.
func (t Table) Print(w io.Writer) {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t {
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprint(w, cell, gap)
			} else {
				fmt.Fprint(w, "  ", gap, cell)
			}
		}
		fmt.Fprintln(w)
	}
}
