// SPDX-License-Identifier: Apache-2.0

package cnipod

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func TestPassed(t *testing.T) {
	all := map[string]string{
		"nsqueue.io/profile": "sandbox", "nsqueue.io/inspect": "true", "nsqueue.io": "",
		"example.com/team": "a", "example.com/tenant": "b", "plain": "c",
	}
	for name, test := range map[string]struct {
		passing []string
		want    []string
	}{
		"default":  {nil, []string{"nsqueue.io/profile", "nsqueue.io/inspect"}},
		"none":     {[]string{}, nil},
		"name":     {[]string{"plain"}, []string{"plain"}},
		"no part":  {[]string{"example.com/te", "nsqueue.io/Profile"}, nil},
		"patterns": {[]string{"example.com/te*", "pl*"}, []string{"example.com/team", "example.com/tenant", "plain"}},
		"twice":    {[]string{"plain", "p*"}, []string{"plain"}},
	} {
		s := Settings{Policy: api.Fail, Passing: test.passing, Annotations: maps.Clone(all)}
		if test.passing != nil {
			delete(s.Annotations, "nsqueue.io/profile") // which would have no meaning
		}
		d := s.Decide("default")
		var want map[string]string
		for _, key := range test.want {
			if want == nil {
				want = make(map[string]string)
			}
			want[key] = all[key]
		}
		if diff := cmp.Diff(want, d.Annotations); diff != "" || d.Refusal != "" || d.Warnings != nil {
			t.Errorf("%s: %q, refusal %q (-want +got):\n%s", name, d.Warnings, d.Refusal, diff)
		}
	}
}

// Inspectors give other names a meaning, but not to what is nsqueue's and misspelt.
func TestMeaningForInspectors(t *testing.T) {
	for name, test := range map[string]struct {
		passing []string
		known   bool
	}{
		"profile":        {nil, true},
		"tenant-class":   {nil, true},
		"x":              {nil, true},
		"policy-set":     {nil, true},
		"inspct":         {nil, false},
		"Inspect":        {nil, false},
		"inspection":     {nil, false},
		"no-inspect":     {nil, false},
		"failurePolicy":  {nil, false},
		"failure_policy": {nil, false},
		"fail-policy":    {nil, false},
		"inspects":       {[]string{"nsqueue.io/inspects"}, true},
		"profil":         {[]string{"nsqueue.io/profile"}, false},
		"other":          {[]string{}, false},
	} {
		key := AnnotationPrefix + name
		s := Settings{
			Policy: api.Fail, Passing: test.passing, Annotations: map[string]string{key: "v"},
		}
		d := s.Decide("default")
		if known := d.Refusal == ""; known != test.known || known != (d.Warnings == nil) {
			t.Errorf("%s: %q, refusal %q", key, d.Warnings, d.Refusal)
		}
	}
}

// What is too much is left out, with a warning, and refuses the pod under Fail. It
// is no matter where the pod is not inspected.
func TestTooManyAnnotations(t *testing.T) {
	annotations := map[string]string{
		"a": "kept", "b": strings.Repeat("v", api.MaxAnnotationBytes), "c": "kept",
	}
	for i := range api.MaxAnnotations {
		annotations[fmt.Sprintf("d%03d", i)] = ""
	}
	s := Settings{Policy: api.Ignore, Passing: []string{"*"}, Annotations: annotations}
	d := s.Decide("default")
	if len(d.Annotations) != api.MaxAnnotations || d.Annotations["c"] == "" || d.Annotations["b"] != "" {
		t.Errorf("%d annotations", len(d.Annotations))
	}
	if d.Refusal != "" || len(d.Warnings) != 3 || !strings.Contains(d.Warnings[0], `"b" not passed on`) {
		t.Errorf("%q, refusal %q", d.Warnings, d.Refusal)
	}
	s.Policy = api.Fail
	if d := s.Decide("default"); !strings.Contains(d.Refusal, `"b" not passed on`) {
		t.Errorf("under Fail: %+v", d)
	}
	s.ExcludeNamespaces = []string{"default"}
	if d := s.Decide("default"); d.Refusal != "" || d.Annotations != nil || d.Warnings != nil {
		t.Errorf("not inspected: %+v", d)
	}
}

func TestPatterns(t *testing.T) {
	for pattern, want := range map[string]bool{
		"*": true, "nsqueue.io/*": true, "nsqueue.io/profile": true, "a": true, "a_b.C-1*": true,
		"": false, "**": false, "a*b": false, "a b": false, "a/b/c": false, "é": false, "a\x00": false,
		strings.Repeat("a", maxPattern): true, strings.Repeat("a", maxPattern+1): false,
	} {
		e := DefaultEntry()
		e.PassAnnotations = []string{"a", pattern}
		if err := e.Validate(); (err == nil) != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
