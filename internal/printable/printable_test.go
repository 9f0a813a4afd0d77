// SPDX-License-Identifier: Apache-2.0

package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

func TestEscape(t *testing.T) {
	for _, test := range []struct{ in, line, text string }{
		{"", "", ""},
		{"eth0 … ü 世", "eth0 … ü 世", "eth0 … ü 世"},
		{"a\\b\"", "a\\b\"", "a\\b\""},
		{"\x1b[2J", `\x1b[2J`, `\x1b[2J`},
		{"a\nb\tc", `a\nb\tc`, "a\nb\tc"},
		{"a\rb\x00\x07\x08", `a\rb\x00\a\b`, `a\rb\x00\a\b`},
		{"\x7f", `\x7f`, `\x7f`},
		{"\u009b31m", `\u009b31m`, `\u009b31m`},
		{"\x9b31m", `\x9b31m`, `\x9b31m`},
		{"a\u202eb\u2066", `a\u202eb\u2066`, `a\u202eb\u2066`},
		{"\u200b\ufeff\u2028\u00a0", `\u200b\ufeff\u2028\u00a0`, `\u200b\ufeff\u2028\u00a0`},
		{"\U000e0001", `\U000e0001`, `\U000e0001`},
		{"\xc3", `\xc3`, `\xc3`},
		{"\xed\xa0\x80", `\xed\xa0\x80`, `\xed\xa0\x80`},
		{"\ufffd", "\ufffd", "\ufffd"},
	} {
		if got := Line(test.in); got != test.line {
			t.Errorf("Line(%q) = %q, want %q", test.in, got, test.line)
		}
		if got := Text(test.in); got != test.text {
			t.Errorf("Text(%q) = %q, want %q", test.in, got, test.text)
		}
	}
}

// isSafe reports whether the text is what a terminal only shows.
func isSafe(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r != '\n' && r != '\t' && !unicode.IsPrint(r)
	}) < 0
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a\x1b[0m\u202e", "\xff\xc3", "\U000e0001\x7f", "ü\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if line := Line(s); !isSafe(line) || strings.ContainsAny(line, "\n\t") || Line(line) != line {
			t.Errorf("Line(%q) = %q", s, line)
		}
		text := Text(s)
		if !isSafe(text) {
			t.Errorf("Text(%q) = %q", s, text)
		}
		var b strings.Builder
		w := NewWriter(&b)
		for i := range len(s) {
			if n, err := w.Write([]byte{s[i]}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.Close(); err != nil || b.String() != text {
			t.Errorf("byte by byte %q is %q, want %q: %v", s, b.String(), text, err)
		}
		checkStructured(t, s)
	})
}

// checkStructured wants a value to be the same after it was escaped.
func checkStructured(t *testing.T, s string) {
	t.Helper()
	s = string([]rune(s)) // JSON holds UTF-8 alone
	value, err := json.Marshal(map[string]string{"v": s})
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromYAML map[string]string
	escaped := JSON(value)
	if err := json.Unmarshal(escaped, &fromJSON); err != nil || fromJSON["v"] != s || !isSafe(string(escaped)) {
		t.Errorf("JSON of %q: %s, %v", s, escaped, err)
	}
	escaped = YAML(value)
	if err := yaml.Unmarshal(escaped, &fromYAML); err != nil || fromYAML["v"] != s || !isSafe(string(escaped)) {
		t.Errorf("YAML of %q: %s, %v", s, escaped, err)
	}
}

func TestWriterErrors(t *testing.T) {
	var b strings.Builder
	w := NewWriter(iotest.TruncateWriter(&b, 100))
	if n, err := w.Write([]byte("ab\x1b")); n != 3 || err != nil || b.String() != `ab\x1b` {
		t.Errorf("%d, %v, %q", n, err, b.String())
	}
	for _, w := range []interface{ Write([]byte) (int, error) }{NewWriter(broken{}), JSONWriter(broken{})} {
		if n, err := w.Write([]byte("a")); n != 0 || err == nil {
			t.Errorf("a broken pipe: %d, %v", n, err)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }
