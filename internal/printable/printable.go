// SPDX-License-Identifier: Apache-2.0

// Package printable escapes text that pods and other programs have written, before
// it reaches a terminal, a log or a label. Pods choose names, and errors quote them:
// a terminal would execute an escape sequence in such a name.
//
// It imports nothing but the standard library, because it is linked into the CNI
// plugin.
package printable

import (
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line escapes everything that is not printable, including line breaks: control
// characters, characters that change the direction of text or have no width, and
// bytes that are not UTF-8. It returns text without these as it is.
func Line(s string) string { return escape(s, isPrint, appendGo) }

// Text is Line for text of several lines: line feeds and tabs stay.
func Text(s string) string { return escape(s, isText, appendGo) }

// JSON returns the same JSON value, with such characters escaped.
func JSON(b []byte) []byte { return []byte(escape(string(b), isText, appendJSON)) }

// YAML returns a value that is given as JSON, as YAML with such characters escaped.
// It differs from [JSON] in characters that JSON escapes as two halves.
func YAML(b []byte) []byte { return []byte(escape(string(b), isText, appendYAML)) }

func isPrint(r rune) bool { return unicode.IsPrint(r) }

func isText(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) }

// escape replaces each byte that is not UTF-8 and each character that is not kept.
func escape(s string, keep func(rune) bool, add func(b []byte, r rune) []byte) string {
	i := clean(s, keep)
	if i == len(s) {
		return s
	}
	b := append(make([]byte, 0, len(s)+16), s[:i]...)
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\x`...)
			b = append(b, hex(uint32(s[i]), 2)...)
		case keep(r):
			b = append(b, s[i:i+size]...)
		default:
			b = add(b, r)
		}
		i += size
	}
	return string(b)
}

// clean returns how much of the text needs no escaping.
func clean(s string, keep func(rune) bool) int {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !keep(r) || r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(s)
}

// appendGo escapes as Go and Python do.
func appendGo(b []byte, r rune) []byte {
	quoted := strconv.AppendQuoteRuneToASCII(nil, r)
	return append(b, quoted[1:len(quoted)-1]...)
}

func appendJSON(b []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return appendU(appendU(b, high), low)
	}
	return appendU(b, r)
}

func appendYAML(b []byte, r rune) []byte {
	if r > 0xffff {
		return append(append(b, `\U`...), hex(uint32(r), 8)...)
	}
	return appendU(b, r)
}

func appendU(b []byte, r rune) []byte {
	return append(append(b, `\u`...), hex(uint32(r), 4)...)
}

func hex(n uint32, width int) string {
	s := strconv.FormatUint(uint64(n), 16)
	return strings.Repeat("0", max(0, width-len(s))) + s
}

// Writer escapes what is written through it as [Text] does. Two writes may share a
// character.
type Writer struct {
	w    io.Writer
	part []byte // the beginning of a character
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes p, but for the beginning of a character that is not complete.
func (w *Writer) Write(p []byte) (int, error) {
	b := append(w.part, p...)
	end := complete(b)
	w.part = append([]byte(nil), b[end:]...)
	if _, err := w.w.Write([]byte(Text(string(b[:end])))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what is left of an incomplete character. It does not close the
// underlying writer.
func (w *Writer) Close() error {
	if len(w.part) == 0 {
		return nil
	}
	part := string(w.part)
	w.part = nil
	_, err := w.w.Write([]byte(Text(part)))
	return err
}

// complete returns where the last character begins, if its end is missing.
func complete(b []byte) int {
	for i := max(0, len(b)-utf8.UTFMax+1); i < len(b); i++ {
		if utf8.RuneStart(b[i]) && !utf8.FullRune(b[i:]) {
			return i
		}
	}
	return len(b)
}

// JSONWriter returns a writer to w that escapes JSON values, one in each write.
func JSONWriter(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	if _, err := j.w.Write(JSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
