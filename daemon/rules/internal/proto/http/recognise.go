// SPDX-License-Identifier: Apache-2.0

package http

import "bytes"

// An Answer says whether bytes are the start of something.
type Answer uint8

// The answers of [Recognise] and [RecogniseH2].
const (
	Undecided Answer = iota // more bytes will tell
	Yes
	No
)

// MaxRecognise is how many bytes are needed at most to tell.
const MaxRecognise = len(preface)

// preface is what an HTTP/2 client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// RecogniseH2 reports whether a client whose first bytes are b speaks HTTP/2 with
// prior knowledge: gRPC without TLS, for one.
func RecogniseH2(b []byte) Answer {
	b = b[:min(len(b), len(preface))]
	switch {
	case string(b) != preface[:len(b)]:
		return No
	case len(b) < len(preface):
		return Undecided
	}
	return Yes
}

// Recognise reports whether a client whose first bytes are b speaks HTTP/1. It says
// Yes to some bytes that Parser then finds malformed, because servers exist that take
// them: space and line ends before the method, other space than one SP after it.
func Recognise(b []byte) Answer {
	switch RecogniseH2(b) {
	case Yes:
		return No
	case Undecided:
		return Undecided
	}
	b = b[:min(len(b), MaxRecognise)]
	answer := requestLine(b)
	if answer == Undecided && len(b) == MaxRecognise {
		return guess(b)
	}
	return answer
}

// guess answers for as many bytes as there may be, of which none was wrong. Clients of
// SMTP and SSH, too, send a word, a space, and what may be the start of a URI.
func guess(b []byte) Answer {
	rest := skip(b, isBlank)
	target := skip(rest, isToken)
	uri := skip(target, isDelimiter)
	switch {
	case len(target) == 0 && len(rest) == len(b):
		return No
	case len(uri) == 0, startsFold("https://", uri), startsFold("http://", uri):
		return Yes
	}
	return No
}

// again reports whether a client that has asked for a tunnel sends a request all the
// same: a line in which a lenient server finds a method and a version.
func again(b []byte) Answer {
	switch RecogniseH2(b) {
	case Yes:
		return No
	case Undecided:
		return Undecided
	}
	b = skip(b, isBlank)
	rest := skip(b, isToken)
	switch {
	case len(rest) == 0:
		return Undecided
	case len(rest) == len(b) || !isDelimiter(rest[0]):
		return No
	}
	end := bytes.IndexAny(rest, "\r\n")
	switch {
	case end < 0:
		return Undecided
	case hasVersion(rest[:end]):
		return Yes
	}
	return No
}

// hasVersion reports whether a version of HTTP is anywhere in b.
func hasVersion(b []byte) bool {
	const protocol = "http/"
	for ; len(b) >= len(protocol); b = b[1:] {
		if fold(b[:len(protocol)], protocol) {
			return true
		}
	}
	return false
}

// requestLine looks at the start of a request line.
func requestLine(b []byte) Answer {
	b = skip(b, isBlank)
	target := skip(b, isToken)
	method := b[:len(b)-len(target)]
	if len(target) == 0 {
		return Undecided
	}
	if len(method) == 0 || !isDelimiter(target[0]) {
		return No
	}
	target = skip(target, isDelimiter)
	switch {
	case len(target) == 0:
		return Undecided
	case target[0] == '/' || target[0] == '*':
		return Yes
	case string(method) == "CONNECT":
		if isHost(target[0]) || target[0] == '[' {
			return Yes
		}
		return No
	}
	return absolute(target)
}

// absolute looks at the start of a URI with a scheme.
func absolute(target []byte) Answer {
	const after = "://"
	rest := skip(target, isScheme)
	n := min(len(rest), len(after))
	switch {
	case len(rest) == len(target) || string(rest[:n]) != after[:n]:
		return No
	case n < len(after):
		return Undecided
	}
	return Yes
}

// skip returns b without the bytes at its start for which is is true.
func skip(b []byte, is func(byte) bool) []byte {
	for len(b) > 0 && is(b[0]) {
		b = b[1:]
	}
	return b
}
