// SPDX-License-Identifier: Apache-2.0

package quic

// An Answer says whether bytes are the start of something.
type Answer uint8

// The answers of [Recognise].
const (
	Undecided Answer = iota // more bytes will tell
	Yes
	No
)

// The versions that the package reads (RFC 9000, 15; RFC 9369, 3.1).
const (
	version1 = 0x00000001
	version2 = 0x6b3343cf
)

const (
	longForm = 0x80
	maxID    = 20 // a connection ID of versions 1 and 2 is at most so long
)

// Recognise tells whether a client's datagram that starts with b has a long
// header of QUIC. Besides the versions that the package reads, drafts and the
// reserved versions count, with which a client makes the server negotiate.
//
// The bit 0x40 is not looked at: RFC 9287 lets clients clear it. The answer is
// about this datagram; a later one of the flow may still be QUIC.
func Recognise(b []byte) Answer {
	if len(b) == 0 {
		return Undecided
	}
	if b[0]&longForm == 0 || !isVersion(b[1:min(len(b), 5)]) {
		return No
	}
	if len(b) < 6 {
		return Undecided
	}
	if b[5] > maxID {
		return No
	}
	return Yes
}

// isVersion reports whether a version can start with b.
func isVersion(b []byte) bool {
	return hasPrefix(b, version1, 0xffffffff) || hasPrefix(b, version2, 0xffffffff) ||
		hasPrefix(b, 0xff000000, 0xffffff00) || hasPrefix(b, 0x0a0a0a0a, 0x0f0f0f0f)
}

// hasPrefix compares b with the first bytes of want, under the mask.
func hasPrefix(b []byte, want, mask uint32) bool {
	for i, c := range b {
		shift := 24 - 8*i
		if c&byte(mask>>shift) != byte(want>>shift) {
			return false
		}
	}
	return true
}
