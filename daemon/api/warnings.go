// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
)

// Bounds of an attach request's warnings. They are about what others have
// written, and none of it may make the request too large.
const (
	maxWarnings = 8
	maxWarning  = 240 // bytes
)

// LimitWarnings returns as much of the warnings as an attach request may have. The
// last one then says how many there were besides.
func LimitWarnings(warnings []string) []string {
	more := 0
	if len(warnings) > maxWarnings {
		more = len(warnings) - maxWarnings + 1
		warnings = warnings[:maxWarnings-1]
	}
	var limited []string
	for _, w := range warnings {
		const dots = "..."
		if len(w) > maxWarning {
			w = strings.ToValidUTF8(w[:maxWarning-len(dots)], "") + dots
		}
		limited = append(limited, w)
	}
	if more > 0 {
		limited = append(limited, fmt.Sprintf("and %d more", more))
	}
	return limited
}
