// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// Table is what is printed in columns. Where it goes to a terminal that is too
// narrow, it gives up columns and shortens names, so that its lines stay lines.
type Table struct {
	// Head are the names of the columns.
	Head []string
	// Elastic is the column that is shortened.
	Elastic string
	// Spare are columns that a narrow terminal can do without, in this order.
	Spare []string
	// Extra are columns that only the wide form of the table has.
	Extra []string
	// Prose says that the last column is text, which may take several lines.
	Prose bool

	rows [][]string
}

const (
	columnGap = 2
	// leastElastic is how much of a name must be left to know it by.
	leastElastic = 16
	// leastProse is how narrow text can be.
	leastProse = 24
)

// Add adds a row, whose cells are of one line each.
func (t *Table) Add(cells ...string) {
	for i, cell := range cells {
		if t.Prose && i == len(cells)-1 {
			cell = strings.Join(strings.Fields(cell), " ")
		}
		cells[i] = printable.Line(cell)
	}
	t.rows = append(t.rows, cells)
}

// Lead puts a column in front, with the same cell in each row that is there.
func (t *Table) Lead(head, cell string) {
	t.Head = append([]string{head}, t.Head...)
	for i, row := range t.rows {
		t.rows[i] = append([]string{printable.Line(cell)}, row...)
	}
}

// Join returns one table of the rows of several, which have the same columns.
func Join(tables ...*Table) *Table {
	if len(tables) == 0 {
		return &Table{}
	}
	all := *tables[0]
	all.rows = nil
	for _, t := range tables {
		all.rows = append(all.rows, t.rows...)
	}
	return &all
}

// Rows returns how many rows there are, without the head.
func (t *Table) Rows() int { return len(t.rows) }

// Narrow returns the table without its extra columns.
func (t *Table) Narrow() *Table {
	keep := func(row []string) (kept []string) {
		for i, cell := range row {
			if !slices.Contains(t.Extra, t.Head[i]) {
				kept = append(kept, cell)
			}
		}
		return kept
	}
	rest := *t
	rest.Head, rest.rows = keep(t.Head), nil
	for _, row := range t.rows {
		rest.rows = append(rest.rows, keep(row))
	}
	return &rest
}

// Write prints the table, at most so wide; 0 is no limit.
func (t *Table) Write(w io.Writer, width int) error {
	l := layout{widths: t.widths(), elastic: slices.Index(t.Head, t.Elastic)}
	if width > 0 {
		t.fit(&l, width)
	} else {
		l.columns = t.columns()
	}
	for _, row := range append([][]string{t.Head}, t.rows...) {
		line := strings.TrimRight(t.line(row, &l, width), " ")
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// layout is which columns are printed, and how.
type layout struct {
	columns []int // in order
	widths  []int // of each column of the table
	elastic int
}

// line returns a row as it is printed; its prose may take several lines.
func (t *Table) line(row []string, l *layout, width int) string {
	var b strings.Builder
	last := len(l.columns) - 1
	for _, i := range l.columns[:last] {
		cell := row[i]
		if i == l.elastic {
			cell = shorten(cell, l.widths[i])
		}
		gap := l.widths[i] - utf8.RuneCountInString(cell) + columnGap
		b.WriteString(cell + strings.Repeat(" ", gap))
	}
	cell := row[l.columns[last]]
	switch {
	case t.Prose && width > 0:
		at := utf8.RuneCountInString(b.String())
		cell = WrapAt(cell, strings.Repeat(" ", at), max(width, at+leastProse))
	case l.columns[last] == l.elastic:
		cell = shorten(cell, l.widths[l.elastic])
	}
	return b.String() + cell
}

// columns returns the numbers of all columns.
func (t *Table) columns() []int {
	columns := make([]int, len(t.Head))
	for i := range columns {
		columns[i] = i
	}
	return columns
}

// widths returns that of each column.
func (t *Table) widths() []int {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// fit decides which columns are left, and makes the elastic one as narrow as it
// must be.
func (t *Table) fit(l *layout, width int) {
	l.columns = t.columns()
	if last := len(l.widths) - 1; t.Prose {
		l.widths[last] = min(l.widths[last], leastProse)
	}
	spare := t.Spare
	for {
		excess := -columnGap - width
		for _, i := range l.columns {
			excess += l.widths[i] + columnGap
		}
		give := max(0, l.widths[l.elastic]-leastElastic)
		if excess <= give || len(spare) == 0 {
			l.widths[l.elastic] -= max(0, min(excess, give))
			return
		}
		l.columns = slices.DeleteFunc(l.columns, func(i int) bool { return t.Head[i] == spare[0] })
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
