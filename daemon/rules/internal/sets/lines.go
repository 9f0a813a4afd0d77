// SPDX-License-Identifier: Apache-2.0

package sets

import "strings"

// LineError is what is wrong with a line of a list.
type LineError struct {
	Line int // the first line is 1
	Err  error
}

// AddLines puts the names of a list into the set: one a line, without what follows a #.
// Empty lines do not count. It goes on after a line that is wrong and returns the first
// few of them.
func (d *Domains) AddLines(list string) []LineError {
	const enough = 20
	var wrong []LineError
	number := 0
	d.makeRoom(list)
	for line := range strings.SplitSeq(list, "\n") {
		number++
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		// Names of a big list outlive it one by one, so none of them holds the list.
		if err := d.Add(strings.Clone(text)); err != nil && len(wrong) < enough {
			wrong = append(wrong, LineError{Line: number, Err: err})
		}
	}
	return wrong
}

// makeRoom makes an empty set large enough for a long list.
func (d *Domains) makeRoom(list string) {
	lines := strings.Count(list, "\n")
	if lines < 1000 || d.Len() > 0 {
		return
	}
	patterns := strings.Count(list, "\n*.")
	d.exact = make(map[string]struct{}, lines-patterns)
	d.below = make(map[string]struct{}, patterns)
}
