// SPDX-License-Identifier: Apache-2.0

package dns

// An Answer says whether bytes are the start of something.
type Answer uint8

// The answers of [Recognise] and [RecogniseStream].
const (
	Undecided Answer = iota // more bytes will tell
	Yes
	No
)

// Recognise reports whether a client's first message, without the length that it
// has over TCP, is likely to be DNS. A header's 12 bytes always tell.
//
// A client asks (query, notify or update) about at least one name, and has no more
// records of a kind than the largest message has room for.
func Recognise(b []byte) Answer {
	for i, c := range b[:min(len(b), headerLen)] {
		if !likely(i, c) {
			return No
		}
	}
	if len(b) < headerLen {
		return Undecided
	}
	return Yes
}

// RecogniseStream is Recognise for the first bytes of a TCP connection.
func RecogniseStream(b []byte) Answer {
	if len(b) < prefixLen {
		return Undecided
	}
	if int(b[0])<<8|int(b[1]) < headerLen {
		return No
	}
	return Recognise(b[prefixLen:])
}

// maxRecordCount is how many of the smallest records fit into 64 KiB.
const maxRecordCount = 1 << 16 / (1 + recordLen)

// likely reports whether the header's byte at i may be c.
func likely(i int, c byte) bool {
	switch i {
	case 2:
		opcode := c >> 3 // with the response flag above it
		return opcode == opcodeQuery || opcode == 4 || opcode == 5
	case 4:
		return c == 0
	case 6, 8, 10:
		return c <= maxRecordCount>>8
	case 5:
		return c > 0 && c <= MaxQuestions
	}
	return true
}
