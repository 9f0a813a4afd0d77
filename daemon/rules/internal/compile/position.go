// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// source is a file, for finding in it what was read from it.
type source struct {
	name  string
	lines []string
}

func newSource(file File) *source {
	return &source{name: file.Name, lines: strings.Split(string(file.Data), "\n")}
}

// locate returns the place in the file of the character of a scalar that has the given
// index. YAML folds lines, takes off indentation and resolves escapes, but leaves the
// other characters in their order: it looks for one after the other.
func (s *source) locate(n *yaml.Node, index int) (line, column int) {
	c := &cursor{lines: s.lines, line: n.Line, column: n.Column}
	c.start(n.Style)
	for i, r := range []rune(n.Value) {
		if i > index {
			break
		}
		if unicode.IsSpace(r) {
			continue
		}
		if !c.find(r, n.Style) {
			return n.Line, n.Column
		}
		line, column = c.line, c.column
		c.column++
		if n.Style == yaml.SingleQuotedStyle && r == '\'' {
			c.column++ // it is doubled there
		}
	}
	if line == 0 {
		return n.Line, n.Column
	}
	return line, column + max(0, index-utf8.RuneCountInString(n.Value)+1)
}

// cursor is a place in a file; both numbers start at 1.
type cursor struct {
	lines        []string
	line, column int
}

// start moves the cursor behind what opens a scalar.
func (c *cursor) start(style yaml.Style) {
	switch style {
	case yaml.LiteralStyle, yaml.FoldedStyle:
		c.line, c.column = c.line+1, 1
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		c.column++
	}
}

// find moves the cursor to the next place of r. In quotes it goes past escapes.
func (c *cursor) find(r rune, style yaml.Style) bool {
	for ; c.line <= len(c.lines); c.line, c.column = c.line+1, 1 {
		line := []rune(c.lines[c.line-1])
		for ; c.column <= len(line); c.column++ {
			at := line[c.column-1]
			if at == '\\' && style == yaml.DoubleQuotedStyle && c.column < len(line) {
				c.column++
				if line[c.column-1] == r {
					return true
				}
				continue
			}
			if at == r {
				return true
			}
		}
	}
	return false
}
