// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxRule is how long the name is of what decided, in bytes. Those of rules are shorter.
const maxRule = 256

// CutRule returns as much of the name of what decided as is passed on.
func CutRule(name string) string {
	if len(name) <= maxRule {
		return name
	}
	end := maxRule
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}

// MatchRule reports whether a name such as SET/RULE is what was asked for: the same name,
// or SET alone. An empty question asks for all.
func MatchRule(asked, name string) bool {
	rest, ok := strings.CutPrefix(name, asked)
	return ok && (asked == "" || rest == "" || rest[0] == '/')
}

// ValidateRule finds what no name could be.
func ValidateRule(asked string) error {
	if len(asked) > maxRule || strings.HasPrefix(asked, "/") || strings.HasSuffix(asked, "/") ||
		!utf8.ValidString(asked) {
		return fmt.Errorf("rule %.60q: want SET or SET/RULE, of at most %d bytes", asked, maxRule)
	}
	return nil
}
