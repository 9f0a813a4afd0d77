// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/nsqueue/nsqueue/test/bench/report"
)

// The lines between which the file is ours.
const (
	beginMark = "<!-- begin of what `make bench-docs` writes -->"
	endMark   = "<!-- end of what `make bench-docs` writes -->"
)

// updateMarkdown replaces what is between the markers.
func updateMarkdown(path string, r *report.Report) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(b), beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !found || !closed {
		return fmt.Errorf("%s: want the lines %q and %q", path, beginMark, endMark)
	}
	text := before + beginMark + "\n\n" + tables(r) + endMark + after
	return os.WriteFile(path, []byte(text), 0o644)
}

// tables is the report in Markdown.
func tables(r *report.Report) string {
	var b strings.Builder
	for _, line := range r.About() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, part := range []struct {
		title string
		table report.Table
	}{
		{"Contenders", r.Contenders()},
		{"Rules", r.RuleTable()},
		{"Inspectors and programs outside nsqueued", r.InspectorTable()},
		{"Calls", r.Timings()},
		{"Pauses", r.PauseTable()},
		{"Targets", r.TargetTable()},
	} {
		if len(part.table) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n", part.title)
			writeTable(&b, part.table)
		}
	}
	if facts := r.Facts(); len(facts) > 0 {
		b.WriteString("\n### Single figures\n\n")
		for _, line := range facts {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func writeTable(b *strings.Builder, t report.Table) {
	for i, row := range t {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(b, "|--%s|\n", strings.Repeat("|--:", len(row)-1))
		}
	}
}
