// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/internal/printable"
)

// LineWidth is how many columns every terminal has.
const LineWidth = 80

// Wrap escapes text and breaks it between words, so that lines with the indent
// before them fit a terminal; the first one is not indented here. A longer word,
// such as a path, gets a line of its own and stays whole.
func Wrap(text, indent string) string { return WrapAt(text, indent, LineWidth) }

// WrapAt is [Wrap] for lines of another width.
func WrapAt(text, indent string, width int) string {
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
