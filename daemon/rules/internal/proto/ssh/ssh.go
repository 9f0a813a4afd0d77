// SPDX-License-Identifier: Apache-2.0

// Package ssh recognises SSH connections.
package ssh

// prefix is what a client's identification starts with (RFC 4253, section 4.2).
const prefix = "SSH-"

// Recognize reports whether the first bytes of a client are SSH's. Where yes is
// false and more is true, only further bytes can tell.
func Recognize(b []byte) (yes, more bool) {
	n := min(len(b), len(prefix))
	same := string(b[:n]) == prefix[:n]
	return same && n == len(prefix), same && n < len(prefix)
}
