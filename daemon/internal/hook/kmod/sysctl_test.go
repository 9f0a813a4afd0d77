// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// The settings are looked for in the directory that was named, and what is missing there
// is told with what to do.
func TestWritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enabled")
	err := writable(path)
	if !errors.Is(err, hook.ErrNotSupported) || !errors.Is(err, os.ErrNotExist) ||
		!strings.Contains(err.Error(), "kmodSysctls") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writable(path); err != nil {
		t.Error(err)
	}
}
