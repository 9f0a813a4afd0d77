// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// table is what is printed in columns. Where it goes to a terminal that is too
// narrow, it gives up columns and shortens names, so that its lines stay lines.
type table struct {
	head []string
	rows [][]string
	// elastic is the column that is shortened.
	elastic string
	// spare are columns that a narrow terminal can do without, in this order.
	spare []string
	// extra are columns that only who asks for all of them gets.
	extra []string
	// prose says that the last column is text, which may take several lines.
	prose bool
}

const (
	columnGap = 2
	// leastElastic is how much of a name must be left to know it by.
	leastElastic = 16
	// leastProse is how narrow text can be.
	leastProse = 24
)

// add adds a row, whose cells are of one line each.
func (t *table) add(cells ...string) {
	for i, cell := range cells {
		if t.prose && i == len(cells)-1 {
			cell = strings.Join(strings.Fields(cell), " ")
		}
		cells[i] = printable.Line(cell)
	}
	t.rows = append(t.rows, cells)
}

// without returns the table without some columns.
func (t *table) without(columns []string) *table {
	keep := func(row []string) (kept []string) {
		for i, cell := range row {
			if !slices.Contains(columns, t.head[i]) {
				kept = append(kept, cell)
			}
		}
		return kept
	}
	rest := *t
	rest.head, rest.rows = keep(t.head), nil
	for _, row := range t.rows {
		rest.rows = append(rest.rows, keep(row))
	}
	return &rest
}

// write prints the table, at most so wide; 0 is no limit.
func (t *table) write(w io.Writer, width int) error {
	columns := make([]int, len(t.head))
	for i := range columns {
		columns[i] = i
	}
	widths := t.widths()
	elastic := slices.Index(t.head, t.elastic)
	if width > 0 {
		columns = t.fit(widths, elastic, width)
	}
	for _, row := range append([][]string{t.head}, t.rows...) {
		var b strings.Builder
		for n, i := range columns {
			cell := row[i]
			if i == elastic {
				cell = shorten(cell, widths[i])
			}
			switch {
			case n < len(columns)-1:
				b.WriteString(cell + strings.Repeat(" ",
					widths[i]-utf8.RuneCountInString(cell)+columnGap))
			case t.prose && width > 0:
				at := utf8.RuneCountInString(b.String())
				b.WriteString(wrapAt(cell, strings.Repeat(" ", at), max(width, at+leastProse)))
			default:
				b.WriteString(cell)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// widths returns that of each column.
func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// fit returns the columns that are left, and makes the elastic one as narrow as
// it must be.
func (t *table) fit(widths []int, elastic, width int) (columns []int) {
	for i := range t.head {
		columns = append(columns, i)
	}
	if last := len(widths) - 1; t.prose {
		widths[last] = min(widths[last], leastProse)
	}
	spare := t.spare
	for {
		excess := -columnGap - width
		for _, i := range columns {
			excess += widths[i] + columnGap
		}
		give := max(0, widths[elastic]-leastElastic)
		if excess <= give || len(spare) == 0 {
			widths[elastic] -= max(0, min(excess, give))
			return columns
		}
		columns = slices.DeleteFunc(columns, func(i int) bool { return t.head[i] == spare[0] })
		spare = spare[1:]
	}
}

// shorten takes the middle out of a name: generated ones differ at the end.
func shorten(name string, width int) string {
	r := []rune(name)
	if len(r) <= width {
		return name
	}
	end := width / 2
	return string(r[:width-end-1]) + "…" + string(r[len(r)-end:])
}
