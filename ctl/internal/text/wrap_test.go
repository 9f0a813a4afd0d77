// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	long := strings.Repeat("x", 90)
	for text, want := range map[string]string{
		"":                                  "",
		"a b":                               "a b",
		"a " + long + " b":                  "a\n  " + long + "\n  b",
		strings.Repeat("é", 78) + " b":      strings.Repeat("é", 78) + "\n  b",
		strings.Repeat("a", 76) + " b c\nd": strings.Repeat("a", 76) + " b\n  c d",
	} {
		if got := Wrap(text, "  "); got != want {
			t.Errorf("Wrap(%q) = %q, want %q", text, got, want)
		}
	}
}

// What is long goes on below its own column.
func TestFields(t *testing.T) {
	var f Fields
	f.Add("Pod", "%s/%s", "default", "web")
	f.Add("Problem", "%s", strings.Repeat("word ", 16))
	f.Add("Hook", "")
	var b strings.Builder
	want := "Pod:      default/web\n" +
		"Problem:  " + strings.TrimSpace(strings.Repeat("word ", 14)) + "\n" +
		"          word word\nHook:\n"
	if err := f.Write(&b); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant:\n%s", err, b.String(), want)
	}
}
