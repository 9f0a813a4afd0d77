// SPDX-License-Identifier: Apache-2.0

package dns

// Recognize reports whether a client's first message, without the length that it
// has over TCP, is likely to be DNS. Where yes is false and more is true, only
// further bytes can tell; a header's 12 bytes always do.
//
// A client asks (query, notify or update) about at least one name, and has fewer
// than 256 records of each kind.
func Recognize(b []byte) (yes, more bool) {
	for i, c := range b[:min(len(b), headerLen)] {
		if !likely(i, c) {
			return false, false
		}
	}
	return len(b) >= headerLen, len(b) < headerLen
}

// RecognizeStream is Recognize for the first bytes of a TCP connection.
func RecognizeStream(b []byte) (yes, more bool) {
	if len(b) < prefixLen {
		return false, true
	}
	if int(b[0])<<8|int(b[1]) < headerLen {
		return false, false
	}
	return Recognize(b[prefixLen:])
}

// likely reports whether the header's byte at i may be c.
func likely(i int, c byte) bool {
	switch i {
	case 2:
		opcode := c >> 3 // with the response flag above it
		return opcode == opcodeQuery || opcode == 4 || opcode == 5
	case 4, 6, 8, 10:
		return c == 0
	case 5:
		return c > 0 && c <= MaxQuestions
	}
	return true
}
