// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/node"
)

// The pages in the repository are those that the code of today makes.
func TestReferenceIsUpToDate(t *testing.T) {
	// Go runs a test again when a file has changed that its own process has read.
	sources, err := filepath.Glob(filepath.Join(root, "daemon/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range sources {
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	for path, render := range pages() {
		want, err := render()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("run `make docs` (-want +got):\n%s", diff)
		}
	}
}

func TestSource(t *testing.T) {
	fields, err := documentFields(compileDir)
	if err != nil {
		t.Fatal(err)
	}
	want := []documentField{{"name", true}, {"expression", true}}
	if diff := cmp.Diff(want, fields["a variable"], cmp.AllowUnexported(documentField{})); diff != "" {
		t.Error(diff)
	}
	objects, err := objectFields(sourceOf("eve"))
	if err != nil {
		t.Fatal(err)
	}
	for object, key := range map[string]string{
		"": "dest_port", "alert": "signature_id", "alert.metadata": "suppressed",
		"kubernetes.pod": "uid", "verdict": "reject_target", "dns": "rcode",
	} {
		if !slices.Contains(objects[object], key) {
			t.Errorf("%q has no %s: %v", object, key, objects[object])
		}
	}
	if n, err := constant(sourceOf("judge"), "quicPatience"); n != int64(50*time.Millisecond) {
		t.Error(n, err)
	}
	if n, err := constant(sourceOf("judge"), "nothing"); err == nil {
		t.Error(n)
	}
}

func TestAccepted(t *testing.T) {
	type settings struct {
		Byte  uint8
		Time  node.Duration
		Count int
		Text  string
	}
	for want, test := range map[string]struct {
		field string
		valid func(*settings) bool
	}{
		"0 to 255":           {"Byte", func(*settings) bool { return true }},
		"3 to 200":           {"Byte", func(s *settings) bool { return s.Byte >= 3 && s.Byte <= 200 }},
		"0s, 20us to 1h":     {"Time", func(s *settings) bool { return s.Time == 0 || within(s.Time) }},
		"20us to 1h":         {"Time", func(s *settings) bool { return within(s.Time) }},
		"from 7":             {"Count", func(s *settings) bool { return s.Count >= 7 }},
		"1 to 65536":         {"Count", func(s *settings) bool { return s.Count >= 1 && s.Count <= 1<<16 }},
		"":                   {"Text", func(*settings) bool { return true }},
		"0, 8 to 12":         {"Count", func(s *settings) bool { return s.Count == 0 || s.Count/4 == 2 || s.Count == 12 }},
		"from 0s":            {"Time", func(*settings) bool { return true }},
		"0s, from 1m30s":     {"Time", func(s *settings) bool { return s.Time == 0 || s.Time >= 90e9 }},
		"9 to 10":            {"Byte", func(s *settings) bool { return s.Byte == 9 || s.Byte == 10 }},
		"0s, from 60h0m0.5s": {"Time", func(s *settings) bool { return s.Time == 0 || s.Time >= 216_000_500_000_000 }},
	} {
		s := settings{10, node.Duration(100 * time.Hour), 10, "x"}
		if want == "0s, 20us to 1h" || want == "20us to 1h" {
			s.Time = node.Duration(time.Second)
		}
		before := s
		got := accepted(reflect.ValueOf(&s).Elem().FieldByName(test.field), func() error {
			if !test.valid(&s) {
				return errors.New("refused")
			}
			return nil
		})
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if s != before {
			t.Errorf("%q: the default is lost: %v", want, s)
		}
	}
}

func within(d node.Duration) bool {
	return d >= node.Duration(20*time.Microsecond) && d <= node.Duration(time.Hour)
}

func TestParseFlags(t *testing.T) {
	got := parseFlags(`Usage:
  x [flags]

Flags:
      --all               take  all
      --file path         the file (default: the installed one)
  -h, --help              help for x
  -n, --number int        how many (at most 3) (default 2)
      --policy string     Ignore or Fail (default "Ignore")
      --to host:port      where to

Use "x [command] --help" for more.
`)
	want := []flag{
		{"--all", "`false`", "take  all"},
		{"--file", "the installed one", "the file"},
		{"--number", "`2`", "how many (at most 3)"},
		{"--policy", "`Ignore`", "Ignore or Fail"},
		{"--to", "none", "where to"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(flag{})); diff != "" {
		t.Error(diff)
	}
}

func TestFieldsWantComments(t *testing.T) {
	if keys, err := fields(comments{}, "", reflect.ValueOf(node.ObserveConfig{})); err == nil {
		t.Errorf("%v, without a comment", keys)
	}
}
