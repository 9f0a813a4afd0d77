// SPDX-License-Identifier: Apache-2.0

package cnipod

import (
	"slices"
	"strings"
)

// maxPattern is the length of the longest name of an annotation in Kubernetes.
const maxPattern = 253 + 1 + 63

// DefaultPassAnnotations returns what an entry without passAnnotations passes on.
func DefaultPassAnnotations() []string { return []string{AnnotationPrefix + "*"} }

// validPattern accepts names of annotations, and beginnings of them with a '*'.
func validPattern(pattern string) bool {
	name, begins := strings.CutSuffix(pattern, "*")
	for _, r := range []byte(name) {
		alphanumeric := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !alphanumeric && !strings.ContainsRune("-_./", rune(r)) {
			return false
		}
	}
	return (name != "" || begins) && len(pattern) <= maxPattern && strings.Count(name, "/") <= 1
}

// matches reports whether a pattern has the name of an annotation.
func matches(pattern, name string) bool {
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, beginning)
	}
	return name == pattern
}

// passes reports whether inspectors get to see annotations of a name.
func (s *Settings) passes(name string) bool {
	patterns := s.Passing
	if patterns == nil {
		patterns = DefaultPassAnnotations()
	}
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// passed returns the pod's annotations that inspectors get to see.
func (s *Settings) passed() map[string]string {
	passed := make(map[string]string)
	for name, value := range s.Annotations {
		if s.passes(name) {
			passed[name] = value
		}
	}
	return passed
}

// forInspectors reports whether an annotation has a meaning though nsqueue itself
// knows none: it is passed on. Where a pattern passes it on and nobody has named
// it, it must not look like an annotation of nsqueue's own that is misspelt.
func (s *Settings) forInspectors(name string) bool {
	if slices.Contains(s.Passing, name) {
		return true
	}
	short := strings.TrimPrefix(name, AnnotationPrefix)
	return s.passes(name) && !resembles(short, InspectName) && !resembles(short, PolicyName)
}

// resembles reports whether a name has the letters of one of nsqueue's own, with up
// to a third of them missing, too many or others.
func resembles(name, own string) bool {
	name, own = letters(name), letters(own)
	edits := len(own) / 3
	return strings.Contains(name, own) ||
		len(name) <= len(own)+edits && distance(name, own) <= edits
}

// letters returns the letters of a name, in lower case.
func letters(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(name))
}

// distance is how many letters make one word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
