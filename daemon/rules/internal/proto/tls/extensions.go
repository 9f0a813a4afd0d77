// SPDX-License-Identifier: Apache-2.0

package tls

// Extensions that are parsed (IANA, TLS ExtensionType Values).
const (
	extServerName = 0
	extSignatures = 13
	extALPN       = 16
	extVersions   = 43
	extECH        = 0xfe0d
)

const (
	seenServerName = 1 << iota
	seenSignatures
	seenALPN
	seenVersions
	seenECH
)

func (h *Hello) parseExtensions(b []byte) bool {
	h.Extensions = b
	for r := reader(b); len(r) > 0; {
		kind, body, ok := r.extension()
		if !ok {
			return false
		}
		switch kind {
		case extServerName:
			ok = h.first(seenServerName) && h.parseServerName(body)
		case extSignatures:
			ok = h.first(seenSignatures) && h.parseSignatures(body)
		case extALPN:
			ok = h.first(seenALPN) && h.parseALPN(body)
		case extVersions:
			ok = h.first(seenVersions) && h.parseVersions(body)
		case extECH:
			ok = h.first(seenECH)
			h.ECH = true
		}
		if !ok {
			return false
		}
	}
	return true
}

// first notes an extension, and reports whether it was not noted before.
func (h *Hello) first(bit uint8) bool {
	first := h.seen&bit == 0
	h.seen |= bit
	return first
}

func (h *Hello) parseSignatures(b []byte) bool {
	list, ok := only16(b)
	h.Signatures = list
	return ok && len(list)%2 == 0
}

func (h *Hello) parseALPN(b []byte) bool {
	list, ok := only16(b)
	if !ok {
		return false
	}
	for r := reader(list); len(r) > 0; {
		if name, ok := r.vector8(); !ok || len(name) == 0 {
			return false
		}
	}
	h.ALPN = list
	return true
}

func (h *Hello) parseVersions(b []byte) bool {
	r := reader(b)
	list, ok := r.vector8()
	h.versions = list
	return ok && len(r) == 0 && len(list) > 0 && len(list)%2 == 0
}
