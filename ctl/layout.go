// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"unicode/utf8"
)

// lineWidth is what every terminal has.
const lineWidth = 80

// wrap breaks text between words, so that lines with the indent before them fit
// a terminal; the first one is not indented here. A longer word, such as a path,
// gets a line of its own and stays whole.
func wrap(text, indent string) string {
	var b strings.Builder
	room := lineWidth - utf8.RuneCountInString(indent)
	column := 0
	for word := range strings.FieldsSeq(text) {
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
