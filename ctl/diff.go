// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/nsqueue/nsqueue/internal/conflist"
)

// diffContext is how many equal lines are around what differs.
const diffContext = 3

// unifiedDiff returns what a change does to its file, as diff -u prints it. It
// is one hunk: nsqueue changes one place of a file.
func unifiedDiff(c *conflist.Change) string {
	a, b := splitLines(c.Before), splitLines(c.After)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	from, to := max(head-diffContext, 0), max(tail-diffContext, 0)
	var d strings.Builder
	fmt.Fprintf(&d, "--- %s\n+++ %s\n", side(c.Path, c.Before), side(c.Path, c.After))
	fmt.Fprintf(&d, "@@ -%s +%s @@\n", lineRange(from, len(a)-to), lineRange(from, len(b)-to))
	writeLines(&d, ' ', a[from:head])
	writeLines(&d, '-', a[head:len(a)-tail])
	writeLines(&d, '+', b[head:len(b)-tail])
	writeLines(&d, ' ', a[len(a)-tail:len(a)-to])
	return d.String()
}

// side names one side of the difference.
func side(path string, text []byte) string {
	if text == nil {
		return "/dev/null"
	}
	return path
}

// lineRange says which lines a hunk has.
func lineRange(from, to int) string {
	if from == to {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func splitLines(text []byte) []string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, line)
	}
	return lines
}

func writeLines(d *strings.Builder, mark byte, lines []string) {
	for _, line := range lines {
		d.WriteByte(mark)
		d.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			d.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
