// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"io"
)

// The formats of output.
const (
	FormatTable = "table"
	FormatWide  = "wide"
	FormatJSON  = "json"
	FormatYAML  = "yaml"
)

// Formats returns the formats of output, the default first.
func Formats() []string { return []string{FormatTable, FormatWide, FormatJSON, FormatYAML} }

// Printer prints what a command has found, in one of [Formats].
type Printer struct {
	Out    io.Writer
	Width  func() int // of the terminal, see [Table.Write]
	Format string
}

// Structured says that the output is for programs.
func (p Printer) Structured() bool { return p.Format == FormatJSON || p.Format == FormatYAML }

// Table prints a table: wide has all columns, on any terminal.
func (p Printer) Table(t *Table) error {
	if p.Format == FormatWide {
		return t.Write(p.Out, 0)
	}
	return t.Narrow().Write(p.Out, p.Width())
}

// Object prints v the way that kubectl prints JSON or YAML.
func (p Printer) Object(v any) error {
	if p.Format == FormatYAML {
		return writeYAML(p.Out, v)
	}
	return writeJSON(p.Out, v, "  ")
}

// Item prints one of many that come one by one.
func (p Printer) Item(v any) error {
	if p.Format == FormatYAML {
		if _, err := fmt.Fprintln(p.Out, "---"); err != nil {
			return err
		}
		return writeYAML(p.Out, v)
	}
	return writeJSON(p.Out, v, "")
}
