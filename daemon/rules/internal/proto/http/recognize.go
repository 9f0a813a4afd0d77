// SPDX-License-Identifier: Apache-2.0

package http

// A Kind is what a client's first bytes say of its protocol.
type Kind uint8

// Kinds of protocols.
const (
	// NeedMore says that only further bytes can tell.
	NeedMore Kind = iota
	HTTP1
	// H2 is HTTP/2 with prior knowledge: gRPC without TLS, for one.
	H2
	// Other is neither.
	Other
)

// MaxRecognize is how many bytes Recognize needs at most.
const MaxRecognize = len(preface)

// preface is what an HTTP/2 client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Recognize says what a client speaks whose first bytes are b. It answers HTTP1 for
// some bytes that Parser then finds malformed, because servers exist that take
// them: line ends before the method, other space than one SP after it.
func Recognize(b []byte) Kind {
	b = b[:min(len(b), MaxRecognize)]
	if string(b) == preface[:len(b)] {
		if len(b) == len(preface) {
			return H2
		}
		return NeedMore
	}
	kind := requestLine(b)
	if kind == NeedMore && len(b) == MaxRecognize {
		return undecided(b)
	}
	return kind
}

// undecided answers for as many bytes as there may be, of which none was wrong. A
// method has ended by then.
func undecided(b []byte) Kind {
	if len(skip(skip(b, isLineEnd), isToken)) == 0 && !isLineEnd(b[len(b)-1]) {
		return Other
	}
	return HTTP1
}

// requestLine looks at the start of a request line.
func requestLine(b []byte) Kind {
	b = skip(b, isLineEnd)
	target := skip(b, isToken)
	method := b[:len(b)-len(target)]
	if len(target) == 0 {
		return NeedMore
	}
	if len(method) == 0 || !isDelimiter(target[0]) {
		return Other
	}
	target = skip(target, isDelimiter)
	switch {
	case len(target) == 0:
		return NeedMore
	case target[0] == '/' || target[0] == '*':
		return HTTP1
	case string(method) == "CONNECT":
		if isHost(target[0]) || target[0] == '[' {
			return HTTP1
		}
		return Other
	}
	return absolute(target)
}

// absolute looks at the start of a URI with a scheme.
func absolute(target []byte) Kind {
	const after = "://"
	rest := skip(target, isScheme)
	n := min(len(rest), len(after))
	switch {
	case len(rest) == len(target) || string(rest[:n]) != after[:n]:
		return Other
	case n < len(after):
		return NeedMore
	}
	return HTTP1
}

// skip returns b without the bytes at its start for which is is true.
func skip(b []byte, is func(byte) bool) []byte {
	for len(b) > 0 && is(b[0]) {
		b = b[1:]
	}
	return b
}
