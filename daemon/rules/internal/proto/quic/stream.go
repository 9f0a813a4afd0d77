// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"math/bits"
)

const (
	// maxCrypto is how many bytes of CRYPTO frames a flow may fill.
	maxCrypto = 16 << 10
	// step is what buffers grow by. It is a multiple of the bits of a word.
	step = 2 << 10
	// keep is the largest buffer that a state keeps for its next flow.
	keep = 2 * step
	// messageHeader is the type and the length of a TLS handshake message.
	messageHeader = 4
	clientHello   = 1
)

// stream joins the bytes of CRYPTO frames.
type stream struct {
	bytes []byte   // up to the last byte so far, with gaps
	seen  []uint64 // a bit for each byte that is there
	ready int      // how many bytes are there from the start on
}

// put adds bytes at an offset. The stream stays shorter than the limit.
func (s *stream) put(offset uint64, data []byte, limit int) Status {
	if offset > uint64(limit) || len(data) > limit-int(offset) {
		return Limit
	}
	at := int(offset)
	s.grow(at + len(data))
	for len(data) > 0 {
		n := min(64-at%64, len(data))
		if !s.merge(at, data[:n]) {
			return Conflict
		}
		at, data = at+n, data[n:]
	}
	s.advance()
	return s.status()
}

// merge adds bytes that share a word of seen. It returns false if another value
// is there for one of them.
func (s *stream) merge(at int, data []byte) bool {
	word := &s.seen[at/64]
	mask := ^uint64(0) >> (64 - len(data)) << (at % 64)
	have := *word & mask
	into := s.bytes[at : at+len(data)]
	switch have {
	case 0:
		copy(into, data)
	case mask:
		return bytes.Equal(into, data)
	default:
		have >>= at % 64
		for i, b := range data {
			if have>>i&1 != 0 && into[i] != b {
				return false
			}
		}
		copy(into, data)
	}
	*word |= mask
	return true
}

// grow makes room up to end.
func (s *stream) grow(end int) {
	if end <= len(s.bytes) {
		return
	}
	if end > cap(s.bytes) {
		size := (end + step - 1) / step * step
		b, seen := make([]byte, len(s.bytes), size), make([]uint64, size/64)
		copy(b, s.bytes)
		copy(seen, s.seen)
		s.bytes, s.seen = b, seen
	}
	s.bytes = s.bytes[:end]
}

// advance moves ready to the first gap.
func (s *stream) advance() {
	for s.ready < len(s.bytes) {
		word := s.seen[s.ready/64] >> (s.ready % 64)
		n := bits.TrailingZeros64(^word)
		if n == 0 {
			return
		}
		s.ready += n
	}
}

// status is what the bytes are so far.
func (s *stream) status() Status {
	if s.ready > 0 && s.bytes[0] != clientHello {
		return Malformed
	}
	if s.ready < messageHeader {
		return NeedMore
	}
	switch n := s.size(); {
	case n > maxCrypto:
		return Limit
	case s.ready < n:
		return NeedMore
	}
	return Complete
}

// size is the length of the first message with its header, which must be there.
func (s *stream) size() int {
	b := s.bytes[:messageHeader]
	return messageHeader + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
}

// reset empties the stream.
func (s *stream) reset() {
	if cap(s.bytes) > keep {
		*s = stream{}
		return
	}
	clear(s.seen)
	s.bytes, s.ready = s.bytes[:0], 0
}
