// SPDX-License-Identifier: Apache-2.0

package eve

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// ellipsis stands where a text was cut.
const ellipsis = "…"

// appendEscaped writes what is inside the quotes of a text: at most so many of its bytes,
// and all that does not print as an escape. Such characters execute in terminals or change
// the direction of lines. Bytes that are not UTF-8 become U+FFFD.
func appendEscaped(b []byte, s string, most int) []byte {
	cut := len(s) > most
	if cut {
		s = s[:whole(s, most)]
	}
	start := 0
	for i := 0; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if plain(r, size) {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		b = appendRune(b, r)
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	if cut {
		b = append(b, ellipsis...)
	}
	return b
}

// whole returns the greatest length up to a bound that cuts no character. Among bytes that
// are not UTF-8 it is the bound.
func whole(s string, bound int) int {
	for n := bound; n > 0 && n > bound-utf8.UTFMax; n-- {
		if utf8.RuneStart(s[n]) {
			return n
		}
	}
	return bound
}

// plain reports whether a character is written as it is.
func plain(r rune, size int) bool {
	switch {
	case r == '"' || r == '\\':
		return false
	case r < utf8.RuneSelf:
		return r >= ' ' && r != 0x7f
	}
	return (r != utf8.RuneError || size > 1) && unicode.IsPrint(r)
}

func appendRune(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	if high, low := utf16.EncodeRune(r); r >= 1<<16 {
		return appendHex(appendHex(b, high), low)
	}
	return appendHex(b, r)
}

func appendHex(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u',
		digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
