// SPDX-License-Identifier: Apache-2.0

package quic

import "encoding/binary"

// reader reads fields. After one that is not whole, bad is true and all fields
// are zero.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)-r.at) {
		r.bad = true
		return nil
	}
	start := r.at
	r.at += int(n)
	return r.b[start:r.at]
}

func (r *reader) uint8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable-length integer (RFC 9000, 16). It need not be as short
// as possible.
func (r *reader) varint() uint64 {
	first := r.uint8()
	v := uint64(first & 0x3f)
	for _, b := range r.take(1<<(first>>6) - 1) {
		v = v<<8 | uint64(b)
	}
	return v
}

// connectionID reads a connection ID with its length.
func (r *reader) connectionID() []byte {
	n := r.uint8()
	if n > maxID {
		r.bad = true
	}
	return r.take(uint64(n))
}

// skipZeros goes on to the next byte that is not zero.
func (r *reader) skipZeros() {
	for len(r.b)-r.at >= 8 && binary.NativeEndian.Uint64(r.b[r.at:]) == 0 {
		r.at += 8
	}
	for r.at < len(r.b) && r.b[r.at] == 0 {
		r.at++
	}
}
