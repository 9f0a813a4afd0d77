// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"io"
	"strings"
)

// Fields are what is printed one below the other, each with its name.
type Fields [][2]string

// Add adds a field below the others.
func (f *Fields) Add(name, format string, args ...any) {
	*f = append(*f, [2]string{name + ":", fmt.Sprintf(format, args...)})
}

// Write prints them; what is long goes on below.
func (f *Fields) Write(w io.Writer) error {
	width := 0
	for _, field := range *f {
		width = max(width, len(field[0]))
	}
	for _, field := range *f {
		text := Wrap(field[1], strings.Repeat(" ", width+columnGap))
		line := fmt.Sprintf("%-*s%s", width+columnGap, field[0], text)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}
