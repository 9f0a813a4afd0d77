// SPDX-License-Identifier: Apache-2.0

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var errPower = errors.New("power cut")

// cutAt returns a Before that fails at a step, and at all that come later.
func cutAt(step Step) func(Step) error {
	cut := false
	return func(s Step) error {
		if cut = cut || s == step; cut {
			return errPower
		}
		return nil
	}
}

func writeFile(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte("old"), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// want checks the content of a file, and how many files there are beside it.
func want(t *testing.T, path, text string, others int) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("content %q, %v; want %q", got, err, text)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1+others {
		t.Errorf("directory has %v, %v; want %d other files", entries, err, others)
	}
}

// Wherever the power is cut, the file is the old one or the new one, and the
// next attempt finds nothing in its way.
func TestPowerCut(t *testing.T) {
	for _, c := range []struct {
		step   Step
		text   string
		others int
	}{
		{Create, "old", 0},
		{Write, "old", 1},
		{Chmod, "old", 1},
		{Sync, "old", 1},
		{Compare, "old", 1},
		{Rename, "old", 1},
		{SyncDir, "new", 0},
	} {
		t.Run(string(c.step), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			writeFile(t, path, 0o644)
			err := Replace(path, []byte("new"), &Options{Mode: 0o644, Before: cutAt(c.step)})
			if !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			want(t, path, c.text, c.others)
			if err := RemoveAbandoned(filepath.Dir(path)); err != nil {
				t.Error(err)
			}
			want(t, path, c.text, 0)
			if err := Replace(path, []byte("newer"), &Options{Mode: 0o644}); err != nil {
				t.Error(err)
			}
			want(t, path, "newer", 0)
		})
	}
}

// An error that is no power cut leaves nothing behind.
func TestStepFails(t *testing.T) {
	for _, step := range []Step{Create, Write, Chmod, Sync, Compare, Rename} {
		path := filepath.Join(t.TempDir(), "f")
		writeFile(t, path, 0o600)
		err := Replace(path, []byte("new"), &Options{Before: func(s Step) error {
			if s == step {
				return fs.ErrPermission
			}
			return nil
		}})
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", step, err)
		}
		want(t, path, "old", 0)
	}
}

func TestReplaceLike(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, 0o640)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	like, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new"), &Options{Like: like}); err != nil {
		t.Fatal(err)
	}
	want(t, path, "new", 0)
	got, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode() != like.Mode() || owner(got) != owner(like) {
		t.Errorf("%v of %v, want %v of %v", got.Mode(), owner(got), like.Mode(), owner(like))
	}
	if os.SameFile(like, got) {
		t.Error("the file was written in place")
	}
}

// A directory is written to that was opened before, whatever is at its path by now.
func TestReplaceIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"old", "new"} {
		o := Options{Mode: 0o600, Temporary: "t", Before: func(s Step) error {
			if _, err := dir.Lstat("t"); (err == nil) != (s != Create && s != SyncDir) {
				t.Errorf("temporary file before %s: %v", s, err)
			}
			return nil
		}}
		if err := ReplaceIn(dir, "f", []byte(text), &o); err != nil {
			t.Fatal(err)
		}
		want(t, filepath.Join(path+"2", "f"), text, 0)
	}
}

func TestCompare(t *testing.T) {
	changed := errors.New("changed")
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, 0o644)
	o := Options{Mode: 0o644, Compare: func() error { return changed }}
	if err := Replace(path, []byte("new"), &o); !errors.Is(err, changed) {
		t.Error(err)
	}
	if err := Remove(path, &o); !errors.Is(err, changed) {
		t.Error(err)
	}
	want(t, path, "old", 0)
	if err := Remove(path, &Options{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after removal: %v", err)
	}
}
