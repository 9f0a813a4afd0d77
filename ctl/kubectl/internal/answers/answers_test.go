// SPDX-License-Identifier: Apache-2.0

package answers

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestOfNode(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                            `{"node":"n\"1"}`,
		` { "b" : 1, "a":[2] } ` + "\n": `{"node":"n\"1","b" : 1, "a":[2] }`,
	} {
		if got, err := OfNode(`n"1`, []byte(in)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "null", "1", "[]", "{", `{"a":1}{}`, `{"node":"other"}`, `{"NODE":1}`, `{"n\u006fde":1}`,
	} {
		if got, err := OfNode("n1", []byte(in)); err == nil {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestItems(t *testing.T) {
	items, err := Items("n1", []byte(`{"a":[{"x":1},{}],"b":2}`), "a")
	if err != nil || len(items) != 2 || string(items[0]) != `{"node":"n1","x":1}` {
		t.Errorf("%s, %v", items, err)
	}
	for _, in := range []string{"", "[]", `{"a":1}`, `{"a":[1]}`, `{"a":[{"node":"n2"}]}`} {
		if items, err := Items("n1", []byte(in), "a"); err == nil {
			t.Errorf("%s: %s", in, items)
		}
	}
	if items, err := Items("n1", []byte(`{}`), "a"); err != nil || len(items) != 0 {
		t.Errorf("%s, %v", items, err)
	}
}

// Whatever a node sends, what is printed as its own is JSON, says that it is of this node,
// and has nothing less than it had.
func FuzzOfNode(f *testing.F) {
	for _, s := range []string{"{}", `{"a":1}`, `{"node":1}`, "null", "{\"\xff\":1}", `{"a":{"node":2}}`, "\v{}"} {
		f.Add("n1", []byte(s))
	}
	f.Fuzz(func(t *testing.T, node string, object []byte) {
		items, _ := Items(node, object, "a")
		for _, item := range items {
			if !json.Valid(item) {
				t.Errorf("item %s", item)
			}
		}
		got, err := OfNode(node, object)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal(bytes.TrimSpace(object), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q: %s", object, err)
		}
		name, err := json.Marshal(node)
		if err != nil || !bytes.Equal(after[NodeKey], name) || len(after) != len(before)+1 {
			t.Errorf("%q of %q: %s", object, node, got)
		}
	})
}
