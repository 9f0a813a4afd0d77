// SPDX-License-Identifier: Apache-2.0

package cnipod

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func testEntry() Entry {
	return Entry{
		Socket: "/s", FailurePolicy: api.Fail,
		ExcludeNamespaces: []string{"kube-system", "a", strings.Repeat("a", 63)},
		PodAnnotations:    []string{"inspect", "failure-policy"},
		PassAnnotations:   []string{},
	}
}

func TestEntryValidate(t *testing.T) {
	for _, good := range []Entry{testEntry(), DefaultEntry()} {
		if err := good.Validate(); err != nil {
			t.Error(err)
		}
	}
	namespace := func(name string) func(*Entry) {
		return func(e *Entry) { e.ExcludeNamespaces = []string{"a", name} }
	}
	for want, spoil := range map[string]func(*Entry){
		`socket: want an absolute path`: func(e *Entry) { e.Socket = "s" },
		`at most 107 bytes`:             func(e *Entry) { e.Socket = "/" + strings.Repeat("s", 107) },
		`got "/a\x00b"`:                 func(e *Entry) { e.Socket = "/a\x00b" },
		`socket: `:                      func(e *Entry) { e.Socket = "" },
		`failurePolicy: want "Ignore" or "Fail", got ""`: func(e *Entry) { e.FailurePolicy = "" },
		`excludeNamespaces: `:                            namespace("A"),
		`got ""`:                                         namespace(""),
		`got "-a"`:                                       namespace("-a"),
		`got "a-"`:                                       namespace("a-"),
		`got "a_b"`:                                      namespace("a_b"),
		`got "aaaa`:                                      namespace(strings.Repeat("a", 64)),
		`podAnnotations: want "inspect" or "failure-policy", got "x"`: func(e *Entry) {
			e.PodAnnotations = []string{"x"}
		},
		`passAnnotations: want names of annotations`: func(e *Entry) {
			e.PassAnnotations = []string{"a", "*b"}
		},
	} {
		e := testEntry()
		spoil(&e)
		if err := e.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want an error with %q", err, want)
		}
	}
}

// FuzzEntry: what is refused is explained in a few words, and what is accepted
// survives being written.
func FuzzEntry(f *testing.F) {
	for _, e := range []Entry{testEntry(), DefaultEntry(), {}} {
		b, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"socket":"/a\u0000","failurePolicy":"Fail","excludeNamespaces":["\ud800"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if json.Unmarshal(b, &e) != nil {
			return
		}
		if err := e.Validate(); err != nil {
			wrong, ok := errors.AsType[*FieldError](err)
			if !ok || wrong.Field == "" || len(err.Error()) > 1000 || !utf8.ValidString(err.Error()) {
				t.Errorf("%q: error %#v", b, err)
			}
			return
		}
		if !filepath.IsAbs(e.Socket) || len(e.Socket) > maxSocketPath {
			t.Errorf("socket %q", e.Socket)
		}
		checkWritten(t, &e)
	})
}

// checkWritten writes and reads an entry. Empty lists are left out, unless that
// would mean something else.
func checkWritten(t *testing.T, e *Entry) {
	t.Helper()
	first, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var again Entry
	if err := json.Unmarshal(first, &again); err != nil {
		t.Fatal(err)
	}
	if err := again.Validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(e.PassAnnotations, again.PassAnnotations); diff != "" {
		t.Error(diff)
	}
	second, err := json.Marshal(again)
	if diff := cmp.Diff(string(first), string(second)); diff != "" || err != nil {
		t.Errorf("%v (-first +second):\n%s", err, diff)
	}
}
