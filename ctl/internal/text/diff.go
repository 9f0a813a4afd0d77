// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"strings"
)

// diffContext is how many equal lines are around what differs.
const diffContext = 3

// Diff returns what changes in the file at a path, as diff -u prints it, in one
// hunk from the first line that differs to the last. A text that is nil stands for
// no file.
func Diff(path string, before, after []byte) string {
	a, b := splitLines(before), splitLines(after)
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
	fmt.Fprintf(&d, "--- %s\n+++ %s\n", side(path, before), side(path, after))
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
