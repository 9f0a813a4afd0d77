// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestLimitWarnings(t *testing.T) {
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprint(i))
	}
	want := []string{"0", "1", "2", "3", "4", "5", "6", "and 2993 more"}
	got := api.LimitWarnings(many)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, api.LimitWarnings(got)); diff != "" {
		t.Errorf("limited twice: %s", diff)
	}
	if got := api.LimitWarnings(many[:8]); len(got) != 8 || got[7] != "7" {
		t.Errorf("of 8: %q", got)
	}
	if got := api.LimitWarnings(nil); got != nil {
		t.Errorf("of none: %q", got)
	}
	long := api.LimitWarnings([]string{"a" + strings.Repeat("é", 1000)})
	if len(long[0]) > 240 || !utf8.ValidString(long[0]) || !strings.HasSuffix(long[0], "é...") {
		t.Errorf("a long one: %q", long)
	}
}

// No number and no length of warnings costs a pod its inspection.
func TestAttachWithManyWarnings(t *testing.T) {
	var d apitest.Daemon
	req := api.AttachRequest{
		Key: api.Key{ContainerID: "c", Ifname: "eth0"}, Origin: api.OriginManual,
	}
	for range 5000 {
		req.Warnings = append(req.Warnings, strings.Repeat("x", 300))
	}
	_, err := api.NewClient(d.Start(t)).Attach(t.Context(), req, nil)
	if got := d.Attached(); err != nil || len(got) != 1 ||
		!cmp.Equal(got[0].Warnings, api.LimitWarnings(req.Warnings)) {
		t.Errorf("%v, %d calls", err, len(got))
	}
}
