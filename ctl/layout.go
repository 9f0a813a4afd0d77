// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// lineWidth is what every terminal has.
const lineWidth = 80

// wrap escapes text and breaks it between words, so that lines with the indent
// before them fit a terminal; the first one is not indented here. A longer word,
// such as a path, gets a line of its own and stays whole.
func wrap(text, indent string) string { return wrapAt(text, indent, lineWidth) }

// wrapAt is wrap for lines of another width.
func wrapAt(text, indent string, width int) string {
	var b strings.Builder
	room := width - utf8.RuneCountInString(indent)
	column := 0
	for word := range strings.FieldsSeq(text) {
		word = printable.Line(word)
		length := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+length > room:
			b.WriteString("\n" + indent)
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// fields are what is printed one below the other, each with its name.
type fields [][2]string

func (f *fields) add(name, format string, args ...any) {
	*f = append(*f, [2]string{name + ":", fmt.Sprintf(format, args...)})
}

// write prints them; what is long goes on below.
func (f *fields) write(w io.Writer) error {
	width := 0
	for _, field := range *f {
		width = max(width, len(field[0]))
	}
	for _, field := range *f {
		text := wrap(field[1], strings.Repeat(" ", width+columnGap))
		line := fmt.Sprintf("%-*s%s", width+columnGap, field[0], text)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}
