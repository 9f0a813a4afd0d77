// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestLimitAnnotations(t *testing.T) {
	many := make(map[string]string)
	for i := range api.MaxAnnotations + 3 {
		many[fmt.Sprintf("a%03d", i)] = "v"
	}
	full := map[string]string{"b": strings.Repeat("v", api.MaxAnnotationBytes-1)}
	for name, test := range map[string]struct {
		all            map[string]string
		kept, warnings int
	}{
		"none":        {nil, 0, 0},
		"empty":       {map[string]string{}, 0, 0},
		"some":        {map[string]string{"a": "", "b": "v"}, 2, 0},
		"too many":    {many, api.MaxAnnotations, 3},
		"just enough": {full, 1, 0},
		"too long":    {map[string]string{"bb": full["b"]}, 0, 1},
		"one beyond":  {map[string]string{"a": "", "b": full["b"], "c": ""}, 2, 1},
	} {
		before := maps.Clone(test.all)
		kept, warnings := api.LimitAnnotations(test.all)
		if len(kept) != test.kept || len(warnings) != test.warnings {
			t.Errorf("%s: kept %d, warnings %q", name, len(kept), warnings)
		}
		if (kept == nil) != (test.kept == 0) || !cmp.Equal(before, test.all) {
			t.Errorf("%s: kept %v, argument changed %v", name, kept, !cmp.Equal(before, test.all))
		}
		again, warnings := api.LimitAnnotations(kept)
		if !cmp.Equal(kept, again) || warnings != nil {
			t.Errorf("%s: not stable, %q", name, warnings)
		}
	}
}

// A request that is full of what JSON writes longest arrives whole.
func TestAttachWithAnnotations(t *testing.T) {
	var d apitest.Daemon
	client := api.NewClient(d.Start(t))
	req := api.AttachRequest{
		Key: api.Key{ContainerID: "c", Ifname: "eth0"}, Origin: api.OriginManual,
	}
	req.Annotations = map[string]string{"a": strings.Repeat("<", api.MaxAnnotationBytes-1), "b": "c"}
	if _, err := client.Attach(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	got := d.Attached()[0]
	if len(got.Annotations["a"]) != api.MaxAnnotationBytes-1 || len(got.Annotations) != 1 {
		t.Errorf("%d annotations", len(got.Annotations))
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], `annotation "b" not passed on`) {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// A request without annotations is written as older daemons read it.
func TestNoAnnotations(t *testing.T) {
	for _, v := range []any{api.AttachRequest{}, api.Attachment{}} {
		b, err := json.Marshal(v)
		if err != nil || strings.Contains(string(b), "annotations") {
			t.Errorf("%s, %v", b, err)
		}
	}
}
