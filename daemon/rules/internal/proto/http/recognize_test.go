// SPDX-License-Identifier: Apache-2.0

package http

import (
	"strings"
	"testing"
)

func TestRecognize(t *testing.T) {
	for _, tc := range []struct {
		bytes string
		want  Kind
	}{
		{"", NeedMore},
		{"G", NeedMore},
		{"GET", NeedMore},
		{"GET ", NeedMore},
		{"GET /", HTTP1},
		{"\r\n\r\nGET", NeedMore},
		{"\r\nGET /", HTTP1},
		{"\nGET /", HTTP1},
		{"GET\t /", HTTP1},
		{"get /", HTTP1},
		{"OPTIONS *", HTTP1},
		{"GET http:", NeedMore},
		{"GET http://", HTTP1},
		{"GET http:a", Other},
		{"GET hello\r\n", Other},
		{"CONNECT a", HTTP1},
		{"CONNECT [", HTTP1},
		{"CONNECT !", Other},
		{"UPDATEREDIRECTREF http://a", HTTP1},
		{strings.Repeat("\r\n", 12), HTTP1},
		{strings.Repeat("A", 24), Other},
		{strings.Repeat("A", 23) + " ", HTTP1},
		{preface, H2},
		{preface + "more", H2},
		{preface[:23], NeedMore},
		{"PRI * HTTP/1.1\r\n", HTTP1},
		{"SSH-2.0-OpenSSH_9.2\r\n", Other},
		{"EHLO mail.example\r\n", Other},
		{"\x16\x03\x01", Other},
		{"*1\r\n", Other},
		{" GET /", Other},
	} {
		if got := Recognize([]byte(tc.bytes)); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.bytes, got, tc.want)
		}
		checkRecognize(t, tc.bytes)
	}
}

// checkRecognize checks that fewer bytes never say anything else, and that
// MaxRecognize of them always tell.
func checkRecognize(t *testing.T, text string) {
	t.Helper()
	whole := Recognize([]byte(text))
	for n := range min(len(text), MaxRecognize) {
		if part := Recognize([]byte(text[:n])); part != NeedMore && part != whole {
			t.Errorf("%q: %v, but %v of %d bytes", text, whole, part, n)
		}
	}
	if len(text) >= MaxRecognize && whole == NeedMore {
		t.Errorf("%q does not tell", text)
	}
}
