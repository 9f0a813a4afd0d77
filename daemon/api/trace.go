// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// The parts of a traceparent, in hexadecimal digits: version, trace, parent,
// flags.
const traceparentForm = "00-00000000000000000000000000000000-0000000000000000-00"

// ValidTraceparent reports whether s is a traceparent of W3C Trace Context. Of
// versions that come after the first, what they may have added is not accepted.
func ValidTraceparent(s string) bool {
	if len(s) != len(traceparentForm) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if traceparentForm[i] == '-' {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	parts := strings.Split(s, "-")
	zero := strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == ""
	return parts[0] != "ff" && !zero
}
