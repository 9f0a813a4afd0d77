// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The lock tells whose it is, and is no other one's after its file was removed.
func TestClear(t *testing.T) {
	dir := t.TempDir()
	if name, active := ActiveInstance(dir); active {
		t.Errorf("%q is active in an empty directory", name)
	}
	l, err := TryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Name("a long name"), l.Name("a/b")); err != nil {
		t.Fatal(err)
	}
	if name, active := ActiveInstance(dir); !active || name != "a/b" {
		t.Errorf("active: %v, %q", active, name)
	}
	Clear(dir)
	if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil {
		t.Errorf("removed while it was held: %v", err)
	}
	late, err := os.Open(filepath.Join(dir, lockName)) // and locks it later
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	l.Clear(dir)
	l.Close()
	if (&Lock{fd: int(late.Fd())}).isAt(filepath.Join(dir, lockName)) {
		t.Error("a removed file is taken for the lock")
	}
	if name, active := ActiveInstance(dir); active {
		t.Errorf("%q is active after its end", name)
	}
}
