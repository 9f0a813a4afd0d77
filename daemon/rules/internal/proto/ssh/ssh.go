// SPDX-License-Identifier: Apache-2.0

// Package ssh recognises SSH connections.
package ssh

// An Answer says whether bytes are the start of something.
type Answer uint8

// The answers of [Recognise].
const (
	Undecided Answer = iota // more bytes will tell
	Yes
	No
)

// prefix is what a client's identification starts with (RFC 4253, section 4.2).
const prefix = "SSH-"

// Recognise reports whether the first bytes of a client are SSH's.
func Recognise(b []byte) Answer {
	n := min(len(b), len(prefix))
	switch {
	case string(b[:n]) != prefix[:n]:
		return No
	case n < len(prefix):
		return Undecided
	}
	return Yes
}
