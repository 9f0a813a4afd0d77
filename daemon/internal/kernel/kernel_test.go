// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"os"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/kernel"
)

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.17.15": false, "5.18.0-rc1": true, "6.1.0-49-amd64": true, "6.0": true, "4.19.0": false,
		"5": false, "": false, "x.y": false, "10.2-custom": true,
	} {
		if got := kernel.TakesPriority(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

func TestRelease(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := kernel.Release(); err != nil || got != strings.TrimSpace(string(text)) {
		t.Errorf("%q, %v, want %q", got, err, text)
	}
}
