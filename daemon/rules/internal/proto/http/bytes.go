// SPDX-License-Identifier: Apache-2.0

package http

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isLineEnd(c byte) bool { return c == '\r' || c == '\n' }

// isDelimiter is what lenient servers take for the space in a request line: the space
// of ASCII, and that of Unicode within Latin-1.
func isDelimiter(c byte) bool {
	return c == ' ' || c == '\t' || c == '\v' || c == '\f' || 0x1c <= c && c <= 0x1f ||
		c == 0x85 || c == 0xa0
}

// isBlank is what lenient servers skip before a request.
func isBlank(c byte) bool { return isLineEnd(c) || isDelimiter(c) }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// isScheme is RFC 3986's scheme, wherever in it.
func isScheme(c byte) bool {
	return isAlpha(c) || isDigit(c) || c == '+' || c == '-' || c == '.'
}

// isHost is what names in DNS are made of, and IPv4 addresses.
func isHost(c byte) bool {
	return isAlpha(c) || isDigit(c) || c == '-' || c == '.' || c == '_'
}

// isTarget is what a request target may have: visible ASCII without a fragment.
// Of RFC 3986 that is more than allowed, and what browsers send.
func isTarget(c byte) bool { return '!' <= c && c <= '~' && c != '#' }

// isValue is what a field's value may have (RFC 9110, section 5.5).
func isValue(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }

// isToken is RFC 9110's tchar.
func isToken(c byte) bool {
	const low = 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' |
		1<<'.' | 0x3ff<<'0'
	const high = 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64) |
		0x3ffffff<<('A'-64) | 0x3ffffff<<('a'-64)
	if c < 64 {
		return uint64(low)>>c&1 != 0
	}
	return c < 128 && uint64(high)>>(c-64)&1 != 0
}

func all(b []byte, is func(byte) bool) bool { return len(skip(b, is)) == 0 }

// trim returns b without spaces around it.
func trim(b []byte) []byte {
	b = skip(b, isSpace)
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// fold reports whether b is the lower-case word, in any case.
func fold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if isAlpha(c) {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// startsFold reports whether the lower-case word starts with b, in any case.
func startsFold(word string, b []byte) bool {
	return len(b) <= len(word) && fold(b, word[:len(b)])
}
