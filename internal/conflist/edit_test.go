// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

func testEntry() *cnipod.Entry {
	return &cnipod.Entry{Socket: api.DefaultSocket, FailurePolicy: api.Ignore}
}

// compact is the test's entry on one line.
const compact = `{"type":"nsqueue","socket":"/run/nsqueue/nsqueued.sock",` +
	`"failurePolicy":"Ignore","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`

// What is inserted looks as its neighbours do, and nothing else changes.
func TestAddKeepsFormat(t *testing.T) {
	const pretty = ",\n    {\n      \"type\": \"nsqueue\",\n" +
		"      \"socket\": \"/run/nsqueue/nsqueued.sock\",\n      \"failurePolicy\": \"Ignore\",\n" +
		"      \"capabilities\": {\n        \"io.kubernetes.cri.pod-annotations\": true\n      }\n    }"
	tabs := strings.NewReplacer("    ", "\t\t", "  ", "\t")
	crlf := strings.NewReplacer("\n", "\r\n")
	indented := [2]string{
		"{\n  \"x-order\": [1.50, 1e3],\n  \"name\": \"n\",\n  \"plugins\": [\n    {\n      \"type\": \"a\"\n    },\n" +
			"    {\n      \"x\": \"\\u0041\",\n      \"type\": \"b\"\n    }",
		"\n  ],\n  \"cniVersion\": \"0.3.1\"\n}\n",
	}
	for name, c := range map[string]struct{ before, inserted, after string }{
		"indented": {indented[0], pretty, indented[1]},
		"tabs":     {tabs.Replace(indented[0]), tabs.Replace(pretty), tabs.Replace(indented[1])},
		"CRLF":     {crlf.Replace(indented[0]), crlf.Replace(pretty), crlf.Replace(indented[1])},
		"one line": {`{"name":"n","plugins":[{"type":"a"}`, "," + compact, `]}`},
		"spaces":   {`{"plugins" : [ {"type":"a"}, {"type":"b"}`, ", " + compact, ` ], "name":"n"}`},
		"a line each": {
			"{\"name\":\"n\",\"plugins\":[\n {\"type\":\"a\"},\n {\"type\":\"b\"}",
			",\n " + compact, "\n]}",
		},
		"brackets in strings": {
			`{"a":"]}\"[{","name":"n","plugins":[{"x":"}],\\","type":"a"}`, "," + compact, `],"b":"\\"}`,
		},
		"escaped and repeated keys": {
			`{"plugins":[],"name":"n","pl\u0075gins":[{"type":"a"}`, "," + compact, `]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, action, err := Add([]byte(c.before+c.after), testEntry())
			if err != nil || action != Added {
				t.Fatalf("%s, %v", action, err)
			}
			if diff := cmp.Diff(c.before+c.inserted+c.after, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, action, err := Add(got, testEntry())
			if err != nil || action != Unchanged || string(again) != string(got) {
				t.Errorf("a second time: %s, %v:\n%s", action, err, again)
			}
			back, action, err := Remove(got)
			if err != nil || action != Removed || string(back) != c.before+c.after {
				t.Errorf("removed: %s, %v:\n%s", action, err, back)
			}
		})
	}
}

func TestAddToOwnEntry(t *testing.T) {
	const own = `{"type":"nsqueue","failurePolicy":"Fail"}`
	want := `{"name":"n","plugins":[{"type":"a"},{"type":"b"},` + compact + `]}`
	for plugins, action := range map[string]Action{
		`{"type":"a"},{"type":"b"},` + own:             Updated,
		`{"type":"a"},` + own + `,{"type":"b"}`:        Moved,
		own + `,{"type":"a"},{"type":"b"}`:             Moved,
		own + `,{"type":"a"},` + own + `,{"type":"b"}`: Moved,
		`{"type":"a"},{"type":"b"},` + own + "," + own: Moved,
	} {
		got, did, err := Add([]byte(`{"name":"n","plugins":[`+plugins+`]}`), testEntry())
		if err != nil || did != action || string(got) != want {
			t.Errorf("%s: %s, want %s; %v:\n%s", plugins, did, action, err, got)
		}
	}
	// The same entry in another form is left alone.
	other := `{"name":"n","plugins":[{"type":"a"}, {"capabilities":{"io.kubernetes.cri.pod-annotations":true},` +
		`"failurePolicy" : "Ignore","socket":"\/run/nsqueue/nsqueued.sock","type":"nsqueue"}]}`
	got, did, err := Add([]byte(other), testEntry())
	if err != nil || did != Unchanged || string(got) != other {
		t.Errorf("%s, %v:\n%s", did, err, got)
	}
}

func TestEditRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"":                                       ErrInvalid,
		"null":                                   ErrInvalid,
		"[]":                                     ErrInvalid,
		`{"name":"n","plugins":[`:                ErrInvalid,
		`{"name":"n"} {}`:                        ErrInvalid,
		`{"plugins":[{"type":"a"}]}`:             ErrInvalid,
		`{"name":1,"plugins":[{"type":"a"}]}`:    ErrInvalid,
		`{"name":null,"plugins":[{"type":"a"}]}`: ErrInvalid,
		`{"name":"n","plugins":{"type":"a"}}`:    ErrInvalid,
		`{"name":"n","plugins":[{"typ":"a"}]}`:   ErrInvalid,
		`{"name":"n","plugins":[{"type":1}]}`:    ErrInvalid,
		`{"name":"n","plugins":["a"]}`:           ErrInvalid,
		"\ufeff" + `{"name":"n","plugins":[{"type":"a"}]}`: ErrInvalid,
		`{"name":"n","plugins":[{"type":"nsqueue"}]}`:      ErrNoPlugins,
	} {
		if got, _, err := Add([]byte(text), testEntry()); !errors.Is(err, want) || got != nil {
			t.Errorf("add to %q: %q, %v; want %v", text, got, err, want)
		}
		if got, _, err := Remove([]byte(text)); !errors.Is(err, want) || got != nil {
			t.Errorf("remove from %q: %q, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`{"name":"n"}`, `{"name":"n","plugins":[]}`} {
		if _, _, err := Add([]byte(text), testEntry()); !errors.Is(err, ErrNoPlugins) {
			t.Errorf("add to %s: %v", text, err)
		}
		if got, did, err := Remove([]byte(text)); err != nil || did != Unchanged || string(got) != text {
			t.Errorf("remove from %s: %q, %s, %v", text, got, did, err)
		}
	}
}

// FuzzEdit: what Add makes is read by libcni as the input with our entry at the
// end, and Remove undoes it byte for byte.
func FuzzEdit(f *testing.F) {
	for _, path := range []string{"10-flannel.conflist", "10-bridge.conflist"} {
		text, err := os.ReadFile(filepath.Join(examples, path))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add([]byte(strings.ReplaceAll(string(text), "\n", "\r\n")))
		for end := range text {
			f.Add(text[:end])
		}
	}
	f.Add([]byte(`{"name":"n","plugins":[{"Type":"a","type":"b"},{"type":"nsqueue"},{"type":"c"}]}`))
	f.Add([]byte("{\"name\":\"n\",\"plugins\":[\n{\"type\":\"a\",\n\t\"\\ud800\":1e400}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		added, action, err := Add(text, testEntry())
		if err != nil {
			return
		}
		checkAdded(t, text, added)
		removed, _, err := Remove(added)
		if err != nil {
			t.Fatalf("remove: %v", err)
		}
		if action == Added && string(removed) != string(text) {
			t.Errorf("removed:\n%q\nfrom:\n%q", removed, text)
		}
		again, action, err := Add(added, testEntry())
		if err != nil || action != Unchanged || string(again) != string(added) {
			t.Errorf("again: %s, %v:\n%q", action, err, again)
		}
	})
}

// checkAdded compares two lists as Go and libcni read them.
func checkAdded(t *testing.T, before, after []byte) {
	t.Helper()
	want, got := decode(t, before), decode(t, after)
	var plugins []any
	for _, p := range want["plugins"].([]any) {
		if kind, err := typeOf(encode(t, p)); err != nil || kind != "nsqueue" {
			plugins = append(plugins, p)
		}
	}
	var entry any
	if err := json.Unmarshal([]byte(compact), &entry); err != nil {
		t.Fatal(err)
	}
	want["plugins"] = append(plugins, entry)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\nfrom:\n%q", diff, before)
	}
	if _, err := libcni.NetworkConfFromBytes(before); err != nil {
		return
	}
	l, err := libcni.NetworkConfFromBytes(after)
	if err != nil {
		t.Fatalf("libcni: %v", err)
	}
	if n := len(l.Plugins); n != len(plugins)+1 || l.Plugins[n-1].Network.Type != "nsqueue" {
		t.Errorf("libcni has %d plugins, want %d, ours last", n, len(plugins)+1)
	}
}

func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
