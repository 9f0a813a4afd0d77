// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"os"
	"testing"

	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Who was there when it was said leaves, and who came later, is of another installation or
// of another boot stays.
func TestRetirement(t *testing.T) {
	path := RetirementPath(t.TempDir())
	before := boottime.Now()
	want := func(instance string, yes bool) {
		t.Helper()
		for began, leaves := range map[bool]bool{false: yes, true: false} {
			at := before
			if began {
				at = boottime.Now()
			}
			if got, err := IsRetired(path, instance, at); err != nil || got != leaves {
				t.Errorf("%q, began later: %v: leaves: %v, %v", instance, began, got, err)
			}
		}
	}
	want("a/nsqueue", false)
	if err := Retire(path, "a/nsqueue"); err != nil {
		t.Fatal(err)
	}
	want("a/nsqueue", true)
	want("b/nsqueue", false)
	if err := Retire(path, ""); err != nil {
		t.Fatal(err)
	}
	want("b/nsqueue", true)
	for _, text := range []string{`{"at":99999999999999999,"bootID":"another"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want("a/nsqueue", false)
	}
	for _, text := range []string{"", "{}", `{"at":"soon"}`, `{"at":5}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := IsRetired(path, "a/nsqueue", before); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

func FuzzParseRetirement(f *testing.F) {
	f.Add([]byte(`{"instance":"a/b","at":5,"bootID":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRetirement(b); err == nil && (r.At <= 0 || r.BootID == "") {
			t.Errorf("%q is %+v", b, r)
		}
	})
}
