// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a file of rules.
type Error struct {
	File         string
	Line, Column int // the first are 1; a column counts characters
	Text         string
}

// Error returns where the file is wrong and what would be right.
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// Errors is all that is wrong with a number of files, in their order.
type Errors []Error

// maxErrors is how many errors are worth telling.
const maxErrors = 100

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the first errors, in the order of files, lines and columns, each once.
func (e Errors) sorted(files []File) Errors {
	order := make(map[string]int, len(files))
	for i, file := range files {
		order[file.Name] = i
	}
	slices.SortStableFunc(e, func(a, b Error) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), strings.Compare(a.File, b.File),
			a.Line-b.Line, a.Column-b.Column)
	})
	e = slices.Compact(e)
	return e[:min(len(e), maxErrors)]
}
