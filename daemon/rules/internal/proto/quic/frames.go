// SPDX-License-Identifier: Apache-2.0

package quic

// The frames that an Initial packet may have (RFC 9000, 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameACK     = 0x02
	frameACKECN  = 0x03
	frameCrypto  = 0x06
	frameClose   = 0x1c
)

// frames reads the frames of an Initial packet into the stream. A hello that is
// complete counts, whatever else the packet has.
func (s *stream) frames(payload []byte, limit int) Status {
	if len(payload) == 0 {
		return Malformed
	}
	worst := s.status()
	r := reader{b: payload}
	for r.at < len(r.b) {
		r.skipZeros()
		if r.at == len(r.b) {
			break
		}
		found := s.frame(&r, limit)
		if worst = max(worst, found); found == Malformed || found == Conflict {
			break
		}
	}
	return worst
}

// frame reads one frame.
func (s *stream) frame(r *reader, limit int) Status {
	switch r.varint() {
	case framePadding, framePing:
	case frameACK:
		r.skipACK()
	case frameACKECN:
		r.skipACK()
		r.skipVarints(3)
	case frameCrypto:
		offset := r.varint()
		if data := r.take(r.varint()); !r.bad {
			return s.put(offset, data, limit)
		}
	case frameClose:
		r.skipVarints(2)
		r.take(r.varint())
	default:
		return Malformed
	}
	if r.bad {
		return Malformed
	}
	return Nothing
}

// skipACK goes on to the end of an ACK frame's ranges.
func (r *reader) skipACK() {
	r.skipVarints(2)
	ranges := r.varint()
	r.skipVarints(1)
	for ; ranges > 0 && !r.bad; ranges-- {
		r.skipVarints(2)
	}
}

func (r *reader) skipVarints(n int) {
	for range n {
		r.varint()
	}
}
