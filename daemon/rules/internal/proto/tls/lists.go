// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"encoding/binary"
	"iter"
)

// Numbers is a list of 16-bit numbers as it is in a ClientHello.
type Numbers []byte

// Len returns how many numbers there are.
func (n Numbers) Len() int { return len(n) / 2 }

// All returns the numbers in the client's order, GREASE included.
func (n Numbers) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i := 0; i+1 < len(n); i += 2 {
			if !yield(binary.BigEndian.Uint16(n[i:])) {
				return
			}
		}
	}
}

// Protocols is the list of application protocols as it is in a ClientHello.
type Protocols []byte

// All returns the protocols in the client's order. They are any bytes that the
// client likes, and none is empty.
func (p Protocols) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for r := reader(p); ; {
			name, ok := r.vector8()
			if !ok || !yield(name) {
				return
			}
		}
	}
}

// Extensions is the list of extensions as it is in a ClientHello.
type Extensions []byte

// All returns numbers and contents of the extensions in the client's order, GREASE
// included.
func (e Extensions) All() iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for r := reader(e); ; {
			kind, body, ok := r.extension()
			if !ok || !yield(kind, body) {
				return
			}
		}
	}
}

// isGREASE reports whether a number is one of those that clients send so that
// servers learn to ignore what they do not know (RFC 8701).
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// reader takes what it reads away from its start.
type reader []byte

// vector8 reads bytes that follow a length of one byte.
func (r *reader) vector8() ([]byte, bool) {
	b := *r
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return nil, false
	}
	end := 1 + int(b[0])
	*r = b[end:]
	return b[1:end:end], true
}

// vector16 reads bytes that follow a length of two bytes.
func (r *reader) vector16() ([]byte, bool) {
	b := *r
	if len(b) < 2 {
		return nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < end {
		return nil, false
	}
	*r = b[end:]
	return b[2:end:end], true
}

// extension reads a number and the bytes that follow it and a length of two bytes.
func (r *reader) extension() (kind uint16, body []byte, ok bool) {
	b := *r
	if len(b) < 4 {
		return 0, nil, false
	}
	end := 4 + int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < end {
		return 0, nil, false
	}
	*r = b[end:]
	return binary.BigEndian.Uint16(b), b[4:end:end], true
}

// only16 returns the bytes of a list that fills b, with its length of two bytes in
// front. No list is empty.
func only16(b []byte) ([]byte, bool) {
	if len(b) < 3 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return nil, false
	}
	return b[2:], true
}
