// SPDX-License-Identifier: Apache-2.0

package tls

import "encoding/binary"

// Versions of TLS as they are on the wire.
const (
	VersionSSL30 = 0x0300
	VersionTLS10 = 0x0301
	VersionTLS11 = 0x0302
	VersionTLS12 = 0x0303
	VersionTLS13 = 0x0304
)

// Sizes of a ClientHello (RFC 8446, section 4.1.2).
const (
	randomEnd     = 34 // after the version, 2 bytes, and the random, 32 bytes
	maxSessionLen = 32
)

// Hello is what a ClientHello says. Its lists point into the message that was
// parsed, and its name into the message or the Hello. A Hello may be used again,
// and must not be copied.
type Hello struct {
	// SNI is the name of the server in lower case and without a final dot. It is
	// empty if the client gave none, and else a DNS name: see [Hello.Parse].
	SNI []byte
	// ALPN has the application protocols.
	ALPN Protocols
	// Version is the highest of the known versions that the client offers, 0 if it
	// offers none of them.
	Version uint16
	// ECH is true if the client sent the extension encrypted_client_hello. The
	// server's name may then be another one. Many clients send the extension with
	// nothing in it, which cannot be told apart.
	ECH bool
	// Ciphers, Extensions and Signatures are the lists of cipher suites, extensions
	// and signature algorithms.
	Ciphers    Numbers
	Extensions Extensions
	Signatures Numbers

	versions Numbers // of the extension supported_versions
	legacy   uint16  // the version in the fixed part
	seen     uint8   // which extensions have been parsed
	lower    [maxNameLen]byte
}

// Parse reads a handshake message that begins with its header, and ignores bytes
// behind it. It answers More until all of the message has come, and keeps nothing
// of what it saw then.
//
// Lengths have to fit exactly. An extension that is parsed may be there once. The
// name has to be a DNS name: letters, digits, hyphens and underscores in labels of
// at most 63, 253 bytes in all, and not only of digits as addresses are. Anything
// else is malformed, and then the Hello is empty.
func (h *Hello) Parse(message []byte) Status {
	h.reset()
	size, s := messageSize(message[:min(len(message), messageHeaderLen)], len(message))
	if s != Complete {
		return s
	}
	if !h.parse(message[messageHeaderLen:size:size]) {
		h.reset()
		return Malformed
	}
	return Complete
}

// reset leaves the bytes of the last name, which nothing points to any more.
func (h *Hello) reset() {
	h.SNI, h.ALPN, h.Version, h.ECH = nil, nil, 0, false
	h.Ciphers, h.Extensions, h.Signatures = nil, nil, nil
	h.versions, h.legacy, h.seen = nil, 0, 0
}

func (h *Hello) parse(b []byte) bool {
	if len(b) < randomEnd {
		return false
	}
	h.legacy = binary.BigEndian.Uint16(b)
	r := reader(b[randomEnd:])
	session, ok := r.vector8()
	if !ok || len(session) > maxSessionLen {
		return false
	}
	ciphers, ok := r.vector16()
	if !ok || len(ciphers) == 0 || len(ciphers)%2 != 0 {
		return false
	}
	h.Ciphers = ciphers
	if compressions, ok := r.vector8(); !ok || len(compressions) == 0 {
		return false
	}
	if len(r) > 0 { // before TLS 1.3, a client may do without extensions
		extensions, ok := r.vector16()
		if !ok || len(r) > 0 || !h.parseExtensions(extensions) {
			return false
		}
	}
	h.Version = h.highest()
	return true
}

// highest returns the version that a server would choose if it knew all of them.
// Servers look at the fixed part only without the extension, and take all that is
// above TLS 1.2 there for TLS 1.2.
func (h *Hello) highest() uint16 {
	if h.versions == nil {
		if h.legacy < VersionSSL30 {
			return 0
		}
		return min(h.legacy, VersionTLS12)
	}
	var highest uint16
	for v := range h.versions.All() {
		if v >= VersionSSL30 && v <= VersionTLS13 {
			highest = max(highest, v)
		}
	}
	return highest
}

// VersionName returns the version as rules and events name it, "" if it is not
// known.
func (h *Hello) VersionName() string {
	switch h.Version {
	case VersionSSL30:
		return "ssl3.0"
	case VersionTLS10:
		return "1.0"
	case VersionTLS11:
		return "1.1"
	case VersionTLS12:
		return "1.2"
	case VersionTLS13:
		return "1.3"
	}
	return ""
}
