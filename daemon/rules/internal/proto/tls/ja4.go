// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Transport is what a ClientHello came by. Its value is the letter for it in a
// fingerprint.
type Transport byte

// The transports that the package knows.
const (
	TCP  Transport = 't'
	QUIC Transport = 'q'
)

const (
	ja4Len      = 36 // the length of a fingerprint
	ja4HashLen  = 12 // hexadecimal digits of a hash
	ja4MaxCount = 99
	ja4NoHash   = "000000000000"

	// Lists of up to so many numbers are sorted and written down without
	// allocating memory. No client in use has longer ones.
	ja4Numbers = 128
	digits     = "0123456789abcdef"
)

// AppendJA4 appends the JA4 fingerprint of the client: 36 bytes, or nothing if the
// Hello is empty. It has three parts, with GREASE left out everywhere:
//
//   - the transport, the version, whether the client named the server, how many
//     ciphers and extensions it has, and the ends of its first protocol
//   - a hash of the ciphers in the order of their numbers
//   - a hash of the extensions in that order, without the name and the protocols,
//     and of the signature algorithms in the client's order
func (h *Hello) AppendJA4(b []byte, over Transport) []byte {
	if len(h.Ciphers) == 0 {
		return b
	}
	var storage, storage2 [ja4Numbers]uint16
	ciphers := appendNumbers(storage[:0], h.Ciphers)
	extensions, count := h.appendExtensions(storage2[:0])
	b = slices.Grow(b, ja4Len)
	b = append(b, byte(over))
	b = append(b, h.ja4Version()...)
	b = append(b, h.ja4Destination())
	b = appendCount(b, len(ciphers))
	b = appendCount(b, count)
	b = h.appendJA4Protocol(b)
	slices.Sort(ciphers)
	slices.Sort(extensions)
	b = appendHash(append(b, '_'), ciphers, nil)
	return appendHash(append(b, '_'), extensions, h.Signatures)
}

// appendExtensions appends the extensions without the name and the protocols, and
// returns how many there are with them.
func (h *Hello) appendExtensions(list []uint16) (_ []uint16, count int) {
	for kind := range h.Extensions.All() {
		if isGREASE(kind) {
			continue
		}
		count++
		if kind != extServerName && kind != extALPN {
			list = append(list, kind)
		}
	}
	return list, count
}

// ja4Highest is the highest number in the extension, known or not.
func (h *Hello) ja4Highest() uint16 {
	if h.versions == nil {
		return h.legacy
	}
	version := uint16(0)
	for v := range h.versions.All() {
		if !isGREASE(v) {
			version = max(version, v)
		}
	}
	return version
}

func (h *Hello) ja4Version() string {
	switch h.ja4Highest() {
	case VersionTLS13:
		return "13"
	case VersionTLS12:
		return "12"
	case VersionTLS11:
		return "11"
	case VersionTLS10:
		return "10"
	case VersionSSL30:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// ja4Destination is d for a domain, i for an address.
func (h *Hello) ja4Destination() byte {
	if h.seen&seenServerName != 0 {
		return 'd'
	}
	return 'i'
}

// appendJA4Protocol appends first and last character of the first protocol, or of
// its hexadecimal digits if they are no letters or digits.
func (h *Hello) appendJA4Protocol(b []byte) []byte {
	r := reader(h.ALPN)
	name, ok := r.vector8()
	if !ok {
		return append(b, "00"...)
	}
	first, last := name[0], name[len(name)-1]
	if alphanumeric(first) && alphanumeric(last) {
		return append(b, first, last)
	}
	return append(b, digits[first>>4], digits[last&15])
}

func alphanumeric(c byte) bool { return c|0x20-'a' < 26 || c-'0' < 10 }

func appendCount(b []byte, n int) []byte {
	n = min(n, ja4MaxCount)
	return append(b, digits[n/10], digits[n%10])
}

// appendNumbers appends the numbers that are not GREASE.
func appendNumbers(list []uint16, n Numbers) []uint16 {
	for v := range n.All() {
		if !isGREASE(v) {
			list = append(list, v)
		}
	}
	return list
}

// appendHash appends the start of the hash of the list and of what follows it.
func appendHash(b []byte, list []uint16, more Numbers) []byte {
	if len(list) == 0 {
		return append(b, ja4NoHash...)
	}
	var storage [2 * ja4Numbers * len("0000,")]byte
	text := storage[:0]
	separator := byte(0)
	for _, v := range list {
		text = appendNumber(text, separator, v)
		separator = ','
	}
	separator = '_'
	for v := range more.All() {
		if !isGREASE(v) {
			text = appendNumber(text, separator, v)
			separator = ','
		}
	}
	sum := sha256.Sum256(text)
	return hex.AppendEncode(b, sum[:ja4HashLen/2])
}

// appendNumber appends a separator, if there is one, and a number.
func appendNumber(b []byte, separator byte, v uint16) []byte {
	if separator != 0 {
		b = append(b, separator)
	}
	return append(b, digits[v>>12], digits[v>>8&15], digits[v>>4&15], digits[v&15])
}
