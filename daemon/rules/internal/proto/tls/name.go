// SPDX-License-Identifier: Apache-2.0

package tls

import "bytes"

// Sizes of a DNS name in text, without a final dot (RFC 1035, section 2.3.4).
const (
	maxNameLen  = 253
	maxLabelLen = 63
)

// nameHost is the type of a server's name that is a DNS name. RFC 6066 has no
// other. Some servers skip names of other types, and so does parseServerName.
const nameHost = 0

func (h *Hello) parseServerName(b []byte) bool {
	list, ok := only16(b)
	if !ok {
		return false
	}
	for r := reader(list); len(r) > 0; {
		kind := r[0]
		r = r[1:]
		name, ok := r.vector16()
		if !ok {
			return false
		}
		if kind == nameHost && (h.SNI != nil || !h.setName(name)) {
			return false
		}
	}
	return h.SNI != nil
}

// setName sets the name if it is a DNS name.
func (h *Hello) setName(name []byte) bool {
	name = bytes.TrimSuffix(name, []byte{'.'})
	if len(name) == 0 || len(name) > maxNameLen {
		return false
	}
	label, upper, letters := 0, false, false
	for _, c := range name {
		if c == '.' {
			if label == 0 {
				return false
			}
			label = 0
			continue
		}
		if label++; label > maxLabelLen || !inLabel(c) {
			return false
		}
		upper = upper || isUpper(c)
		letters = letters || c > '9' || c == '-'
	}
	if label == 0 || !letters {
		return false
	}
	if upper {
		name = h.toLower(name)
	}
	h.SNI = name
	return true
}

func (h *Hello) toLower(name []byte) []byte {
	lower := h.lower[:copy(h.lower[:], name)]
	for i, c := range lower {
		if isUpper(c) {
			lower[i] = c | 0x20
		}
	}
	return lower
}

func isUpper(c byte) bool { return c-'A' < 26 }

// inLabel reports whether a byte is a letter, a digit, a hyphen or an underscore.
func inLabel(c byte) bool {
	return c|0x20-'a' < 26 || c-'0' < 10 || c == '-' || c == '_'
}
