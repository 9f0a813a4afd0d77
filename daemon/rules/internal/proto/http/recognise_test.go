// SPDX-License-Identifier: Apache-2.0

package http

import (
	"strings"
	"testing"
)

func TestRecognise(t *testing.T) {
	for _, tc := range []struct {
		bytes string
		want  Answer
	}{
		{"", Undecided},
		{"G", Undecided},
		{"GET", Undecided},
		{"GET ", Undecided},
		{"GET /", Yes},
		{"\r\n\r\nGET", Undecided},
		{"\r\nGET /", Yes},
		{"\nGET /", Yes},
		{"GET\t /", Yes},
		{"get /", Yes},
		{"OPTIONS *", Yes},
		{"GET http:", Undecided},
		{"GET http://", Yes},
		{"GET http:a", No},
		{"GET hello\r\n", No},
		{"CONNECT a", Yes},
		{"CONNECT [", Yes},
		{"CONNECT !", No},
		{"UPDATEREDIRECTREF http://a", Yes},
		{strings.Repeat("\r\n", 12), Yes},
		{strings.Repeat("A", 24), No},
		{strings.Repeat("A", 23) + " ", Yes},
		{preface, No},
		{preface + "more", No},
		{preface[:23], Undecided},
		{"PRI * HTTP/1.1\r\n", Yes},
		{"SSH-2.0-OpenSSH_9.2\r\n", No},
		{"EHLO mail.example\r\n", No},
		{"\x16\x03\x01", No},
		{"*1\r\n", No},
		{" GET /", Yes},
		{"\x1c\xa0GET\x85/", Yes},
		{strings.Repeat("\r\n", 11) + "GET /", Yes},
		{strings.Repeat(" ", 30) + "GET /", Yes},
		{"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", No},
		{"EHLO ip-198-51-100-7.compute.example\r\n", No},
		{"AUTOMATIC-METHOD http://a.example/", Yes},
		{"AUTOMATIC-METHODS HTTPS://a.example/", Yes},
	} {
		if got := Recognise([]byte(tc.bytes)); got != tc.want {
			t.Errorf("%q: %d, want %d", tc.bytes, got, tc.want)
		}
		checkRecognise(t, tc.bytes)
	}
}

func TestRecogniseH2(t *testing.T) {
	for text, want := range map[string]Answer{
		"":                   Undecided,
		"P":                  Undecided,
		preface[:23]:         Undecided,
		preface:              Yes,
		preface + "more":     Yes,
		"PRI * HTTP/1.1\r\n": No,
		"POST /":             No,
		"\r\n" + preface:     No,
	} {
		if got := RecogniseH2([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// checkRecognise checks that fewer bytes never say anything else, and that
// MaxRecognise of them always tell.
func checkRecognise(t *testing.T, text string) {
	t.Helper()
	whole := Recognise([]byte(text))
	for n := range min(len(text), MaxRecognise) {
		if part := Recognise([]byte(text[:n])); part != Undecided && part != whole {
			t.Errorf("%q: %d, but %d of %d bytes", text, whole, part, n)
		}
	}
	if len(text) >= MaxRecognise && whole == Undecided {
		t.Errorf("%q does not tell", text)
	}
}
