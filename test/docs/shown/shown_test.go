// SPDX-License-Identifier: Apache-2.0

package shown_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/test/docs/shown"
)

func TestCommands(t *testing.T) {
	got := shown.Commands("Run `nsqueuectl status`, `nsqueued` or `make test`:\n\n" +
		"    nsqueuectl list   # what there is\n" +
		"    A=b \\\n        go test ./x\n\n" +
		"- see:\n\n      nsqueuectl watch | head\n      nsqueuectl list\n\n" +
		"```yaml\n    key: value\n```\n")
	want := []string{
		"nsqueuectl status", "make test", "nsqueuectl list", "A=b go test ./x",
		"nsqueuectl watch | head",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPages(t *testing.T) {
	pages, err := shown.Pages("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "docs/operate.md", "kmod/README.md"} {
		if !slices.Contains(pages, page) {
			t.Errorf("%s is not among %v", page, pages)
		}
	}
	if _, err := shown.Pages(t.TempDir()); err == nil {
		t.Error("found pages where there are none")
	}
}
