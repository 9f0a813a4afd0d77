// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
)

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestValidTraceparent(t *testing.T) {
	for s, want := range map[string]bool{
		trace:                                true,
		"01" + trace[2:]:                     true,
		"ff" + trace[2:]:                     false,
		"":                                   false,
		trace[1:]:                            false,
		trace + "-x":                         false,
		strings.ToUpper(trace):               false,
		trace[:54] + "\n":                    false,
		"00_" + trace[3:]:                    false,
		trace[:3] + zeros + trace[35:]:       false,
		trace[:36] + zeros[:16] + trace[52:]: false,
	} {
		if got := api.ValidTraceparent(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
	req := testRequest()
	req.Traceparent = trace
	if err := req.Validate(); err != nil {
		t.Error(err)
	}
	req.Traceparent = "spoofed\nline"
	if err := req.Validate(); err == nil || !strings.Contains(err.Error(), "traceparent") {
		t.Errorf("%v, want an error about traceparent", err)
	}
}

const zeros = "00000000000000000000000000000000"

func FuzzValidTraceparent(f *testing.F) {
	for i := range len(trace) {
		f.Add(trace[:i])
	}
	f.Add(trace)
	form := regexp.MustCompile(`\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		want := form.MatchString(s) && s[:2] != "ff" && s[3:35] != zeros && s[36:52] != zeros[:16]
		if got := api.ValidTraceparent(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}
