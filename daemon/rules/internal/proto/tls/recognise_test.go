// SPDX-License-Identifier: Apache-2.0

package tls

import "testing"

func TestRecognise(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  Answer
		after int // how many bytes it takes
	}{
		"nothing":                {"", Undecided, 0},
		"hello":                  {"16 0301 0200 01 0001fc 0303", Yes, 6},
		"hello, odd version":     {"16 0f00 0200 01", Yes, 6},
		"hello, other major":     {"16 1000 0200 01", No, 2},
		"records of 1 byte":      {"16 0301 0001 01 16 0301 0001 00", Yes, 6},
		"empty record":           {"16 0301 0000 16", Yes, 5},
		"record too long":        {"16 0301 4001 01", No, 5},
		"longest record":         {"16 0301 4000 01", Yes, 6},
		"header alone":           {"16 0301 0200", Undecided, 0},
		"a server's hello":       {"16 0303 007a 02", No, 6},
		"warning first":          {"15 0301 0002 01 00 16 0301", Yes, 6},
		"fatal alert":            {"15 0301 0002 02 28", Yes, 6},
		"alert of another level": {"15 0301 0002 03 28", No, 6},
		"alert of another size":  {"15 0301 0003 01", No, 5},
		"change of ciphers":      {"14 0303 0001 01 16", Yes, 6},
		"no change of ciphers":   {"14 0303 0001 02", No, 6},
		"data":                   {"17 0303 0020 01", No, 1},
		"SSL 2.0":                {"80 2e 01 0002", No, 1},
		"PostgreSQL SSLRequest":  {"00000008 04d2162f", No, 1},
		"HTTP":                   {"474554202f", No, 1},
		"SSH":                    {"5353482d322e30", No, 1},
		"PROXY header":           {"50524f5859", No, 1},
	} {
		b := fromHex(t, c.bytes)
		for n := range len(b) + 1 {
			want := c.want
			if n < c.after {
				want = Undecided
			}
			if got := Recognise(b[:n]); got != want {
				t.Errorf("%s: %d after %d bytes, want %d", name, got, n, want)
			}
		}
	}
}
