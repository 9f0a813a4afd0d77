// SPDX-License-Identifier: Apache-2.0

package tls

import "encoding/binary"

// An Answer says whether bytes are the start of something.
type Answer uint8

// The answers of [Recognise].
const (
	Undecided Answer = iota // more bytes will tell
	Yes
	No
)

// Recognise reports whether a stream that begins with these bytes is that of a TLS
// client. It decides with at most 6 bytes.
//
// A client begins with a ClientHello, but servers also read on after a warning or
// a change of ciphers, which therefore are TLS as well. An empty record of
// handshake is TLS, so that the [Joiner] can call it malformed.
func Recognise(first []byte) Answer {
	if len(first) == 0 {
		return Undecided
	}
	if !knownRecord(first[0]) || len(first) > 1 && first[1] > maxMajor {
		return No
	}
	if len(first) < recordHeaderLen {
		return Undecided
	}
	n := int(binary.BigEndian.Uint16(first[3:]))
	switch first[0] {
	case recordHandshake:
		return recogniseHandshake(n, first[recordHeaderLen:])
	case recordAlert:
		return recogniseFixed(n == alertLen, first[recordHeaderLen:], alertWarning, alertFatal)
	}
	return recogniseFixed(n == changeLen, first[recordHeaderLen:], changeValue, changeValue)
}

// recogniseHandshake judges a record of n bytes of handshake by the first of them.
func recogniseHandshake(n int, body []byte) Answer {
	switch {
	case n > maxRecordLen:
		return No
	case n == 0:
		return Yes
	}
	return recogniseFixed(true, body, messageClientHello, messageClientHello)
}

// recogniseFixed judges a record by its first byte, which has to be one of two.
func recogniseFixed(rightLen bool, body []byte, one, other byte) Answer {
	switch {
	case !rightLen:
		return No
	case len(body) == 0:
		return Undecided
	case body[0] == one || body[0] == other:
		return Yes
	}
	return No
}
