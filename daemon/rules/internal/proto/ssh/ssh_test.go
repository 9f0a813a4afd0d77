// SPDX-License-Identifier: Apache-2.0

package ssh

import (
	"bytes"
	"testing"
)

func TestRecognise(t *testing.T) {
	for text, want := range map[string]Answer{
		"":                        Undecided,
		"S":                       Undecided,
		"SSH":                     Undecided,
		"SSH-":                    Yes,
		"SSH-2.0-OpenSSH_9.2\r\n": Yes,
		"SSH-1.99-x":              Yes,
		"ssh-2.0":                 No,
		"SSL":                     No,
		"\x16\x03\x01":            No,
	} {
		if got := Recognise([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// An answer lasts, whatever bytes follow, and 4 bytes always tell.
func FuzzRecognise(f *testing.F) {
	for _, seed := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "SSH", "ssh-2.0-x", "\x16\x03\x01", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		last := Undecided
		for n := range len(b) + 1 {
			got := Recognise(b[:n:n])
			if last != Undecided && got != last {
				t.Fatalf("%d of %d bytes, then %d", last, n, got)
			}
			last = got
		}
		if (last == Yes) != bytes.HasPrefix(b, []byte(prefix)) {
			t.Errorf("%q: %d", b, last)
		}
		if len(b) >= len(prefix) && last == Undecided {
			t.Errorf("%q does not tell", b)
		}
	})
}
