// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
)

func testKey() api.Key { return api.Key{ContainerID: "c0ffee", Ifname: "eth0"} }

func testAdd(tb testing.TB, key api.Key) *spool.Entry {
	tb.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	e, err := spool.NewAdd(api.AttachRequest{
		Key: key, Network: "cbr0", Origin: api.OriginCNI, NetnsPath: "/run/netns/a",
		Pod: api.Pod{Namespace: "default", Name: "web"}, FailurePolicy: api.Ignore,
		Warnings:    []string{"<one>", "two"},
		Annotations: map[string]string{"nsqueue.io/profile": "<s>\x1b"},
	}, f, boottime.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func testDel(tb testing.TB, key api.Key) *spool.Entry {
	tb.Helper()
	e, err := spool.NewDel(key, boottime.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestEntry(t *testing.T) {
	before := boottime.Now()
	add, del := testAdd(t, testKey()), testDel(t, testKey())
	after := boottime.Now()
	if before > add.Called || add.Called > del.Called || del.Called > after || before <= 0 {
		t.Errorf("called at %v and %v, between %v and %v", add.Called, del.Called, before, after)
	}
	info, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if want := inode(t, info); add.Netns.Ino != want || del.Netns != nil {
		t.Errorf("netns %+v and %+v, want inode %d and none", add.Netns, del.Netns, want)
	}
	for _, e := range []*spool.Entry{add, del} {
		back, err := spool.Parse(marshal(t, e))
		if diff := cmp.Diff(e, back); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", e.Verb, err, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	add, del := string(marshal(t, testAdd(t, testKey()))), string(marshal(t, testDel(t, testKey())))
	replace := func(s, old, by string) string {
		t.Helper()
		if !strings.Contains(s, old) {
			t.Fatalf("%s lacks %s", s, old)
		}
		return strings.Replace(s, old, by, 1)
	}
	for name, test := range map[string]struct{ data, mentions string }{
		"nothing":         {"", "end of JSON"},
		"null":            {"null", "version 0"},
		"list":            {"[]", "array"},
		"no version":      {"{}", "version 0"},
		"negative":        {replace(del, `"version":1`, `"version":-1`), "version -1"},
		"two values":      {del + "{}", "after top-level value"},
		"unknown field":   {replace(del, `"verb"`, `"x":1,"verb"`), "unknown field"},
		"unknown in add":  {replace(add, `"origin"`, `"x":1,"origin"`), "unknown field"},
		"unknown verb":    {replace(del, "DEL", "GC"), `verb "GC"`},
		"bad key":         {replace(del, "c0ffee", "../x"), "container ID"},
		"no time":         {replace(del, `"called":`, `"called":-`), "time of the call"},
		"no boot":         {replace(del, `"bootID":"`, `"bootID":"","time":"`), ""},
		"del with attach": {replace(add, "ADD", "DEL"), "with a DEL"},
		"add without":     {replace(del, "DEL", "ADD"), "want both"},
		"other key":       {replace(add, "c0ffee", "other"), "the entry for"},
		"origin":          {replace(add, `"cni"`, `"manual"`), "origin"},
		"policy":          {replace(add, "Ignore", "ignore"), "policy"},
		"relative path":   {replace(add, "/run/netns/a", "netns/a"), "absolute"},
		"no path":         {replace(add, "/run/netns/a", ""), "absolute"},
		"zero in path":    {replace(add, "/run/netns/a", `/a\u0000b`), "absolute"},
		"no inode":        {replace(add, `"ino":`, `"ino":0,"dev":`), "want both"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := spool.Parse([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.mentions) {
				t.Errorf("%+v, %v; want an error with %q", e, err, test.mentions)
			}
			if errors.Is(err, spool.ErrNewer) {
				t.Errorf("taken for newer: %v", err)
			}
		})
	}
}

// What a newer plugin writes may look like anything.
func TestParseNewer(t *testing.T) {
	for _, data := range []string{`{"version":2}`, `{"version":1000,"verb":7,"new":{}}`} {
		if _, err := spool.Parse([]byte(data)); !errors.Is(err, spool.ErrNewer) {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// A file that was not written to its end is no entry.
func TestParseTruncated(t *testing.T) {
	for _, e := range []*spool.Entry{testAdd(t, testKey()), testDel(t, testKey())} {
		b := marshal(t, e)
		for n := range b {
			if got, err := spool.Parse(b[:n]); err == nil {
				t.Errorf("%d of %d bytes are %+v", n, len(b), got)
			}
		}
	}
}

// FuzzParse checks that what is accepted is valid and survives being written
// again.
func FuzzParse(f *testing.F) {
	f.Add(marshal(f, testAdd(f, testKey())))
	f.Add(marshal(f, testDel(f, testKey())))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := spool.Parse(b)
		if err != nil {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("%s is accepted: %v", b, err)
		}
		again, err := spool.Parse(marshal(t, e))
		if diff := cmp.Diff(e, again); diff != "" || err != nil {
			t.Fatalf("%s: %v (-want +got):\n%s", b, err, diff)
		}
	})
}
