// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openUnlocked(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenUnlocked(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// files returns the names and the contents of all files.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	dir = filepath.Join(dir, Directory)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(b)
	}
	return found
}

// seeded has records a, b and c, and a damaged file.
func seeded(t *testing.T, dir string) *Store {
	t.Helper()
	s := open(t, dir)
	for _, id := range []string{"a", "b", "c"} {
		if err := s.Save(record(id)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, "bad@eth0.json", []byte("{"))
	return s
}

// change changes record a, removes b, adds d, and changes its mind about c and e.
func change(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Load(nil); err != nil {
		t.Fatal(err)
	}
	changed := record("a")
	changed.Network = "other"
	err := errors.Join(s.Save(changed), s.Remove(record("b").Key), s.Save(record("d")),
		s.Remove(record("c").Key), s.Save(record("c")), s.Save(record("e")),
		s.Remove(record("e").Key), s.Tidy())
	if err != nil {
		t.Fatal(err)
	}
}

// Without the lock nothing is changed, whatever the process that has it does. A store that
// never gets the lock leaves no trace.
func TestUnlockedChangesNothing(t *testing.T) {
	dir := t.TempDir()
	owner := seeded(t, dir)
	before := files(t, dir)
	s := openUnlocked(t, dir)
	change(t, s)
	if err := s.MarkOrderly(); !errors.Is(err, ErrNotLocked) {
		t.Errorf("mark: %v, want %v", err, ErrNotLocked)
	}
	if err := s.Lock(t.Context(), time.Millisecond); !errors.Is(err, ErrInUse) {
		t.Errorf("lock: %v, want %v", err, ErrInUse)
	}
	if err := owner.Save(record("a")); err != nil {
		t.Error(err)
	}
	if after := files(t, dir); len(after) != len(before) || after["a@eth0.json"] != before["a@eth0.json"] {
		t.Errorf("files %v, want %v", after, before)
	}
}

// The lock comes with all that has waited for it.
func TestLockCarriesOut(t *testing.T) {
	dir := t.TempDir()
	owner := seeded(t, dir)
	s := openUnlocked(t, dir)
	change(t, s)
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	owner.lock = nil
	if err := s.Lock(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second store: %v, want %v", err, ErrInUse)
	}
	got := files(t, dir)
	for _, name := range []string{"a@eth0.json", "c@eth0.json", "d@eth0.json", "bad@eth0.json.damaged"} {
		if _, there := got[name]; !there {
			t.Errorf("no file %s", name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("more files: %v", got)
	}
	loaded, err := s.Load(nil)
	if err != nil || len(loaded.Records) != 3 || loaded.Records[0].Network != "other" {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	if err := errors.Join(s.Save(record("f")), s.MarkOrderly()); err != nil {
		t.Error(err)
	}
	if there, err := s.TakeOrderly(); !there || err != nil {
		t.Errorf("orderly %t, %v", there, err)
	}
}

// The mark of the daemon before goes at once: what this one reads from then on, it may not
// answer.
func TestUnlockedTakesTheMark(t *testing.T) {
	dir := t.TempDir()
	owner := open(t, dir)
	if err := owner.MarkOrderly(); err != nil {
		t.Fatal(err)
	}
	if there, err := openUnlocked(t, dir).TakeOrderly(); !there || err != nil {
		t.Errorf("orderly %t, %v", there, err)
	}
	if there, err := owner.TakeOrderly(); there || err != nil {
		t.Errorf("orderly %t, %v; want that it is taken", there, err)
	}
}

// A file that cannot be written is named, and the lock is there all the same.
func TestLockSaysWhatIsUnsaved(t *testing.T) {
	dir := t.TempDir()
	s := openUnlocked(t, dir)
	if err := errors.Join(s.Save(record("a")), s.Save(record("b"))); err != nil {
		t.Fatal(err)
	}
	stuck := filepath.Join(dir, Directory, "a@eth0.json", "inside")
	if err := os.MkdirAll(stuck, 0o700); err != nil {
		t.Fatal(err)
	}
	err := s.Lock(t.Context(), time.Minute)
	if !errors.Is(err, ErrUnsaved) || errors.Is(err, ErrInUse) {
		t.Errorf("lock: %v, want %v", err, ErrUnsaved)
	}
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second store: %v, want %v", err, ErrInUse)
	}
	if _, err := os.Stat(filepath.Join(dir, Directory, "b@eth0.json")); err != nil {
		t.Error(err)
	}
}
