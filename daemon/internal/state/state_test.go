// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
)

func record(id string) Record {
	return Record{
		Version: Version, Key: api.Key{ContainerID: id, Ifname: "eth0"}, Network: "cbr0",
		Origin: api.OriginCNI, Pod: api.Pod{Namespace: "default", Name: "web"},
		Netns: api.Netns{Cookie: 7, Path: "/run/netns/web"}, Hook: "nft", State: api.Active,
		FailurePolicy: api.Fail, Queue: 80, Created: time.Unix(1, 0).UTC(),
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
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

func TestSaveLoadRemove(t *testing.T) {
	s := open(t, t.TempDir())
	want := []Record{record("a"), record("b")}
	want[1].Annotations = map[string]string{"nsqueue.io/profile": "<s>\x1b\u202e"}
	for _, r := range want {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].BootID = s.bootID
	}
	if diff := cmp.Diff(Contents{Records: want}, got); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := s.Remove(want[0].Key); err != nil {
			t.Fatal(err)
		}
	}
	got, err = s.Load(nil)
	if r := got.Records; err != nil || len(r) != 1 || r[0].ContainerID != "b" {
		t.Errorf("after removal: %v, %v", got, err)
	}
}

// write puts a file of any content into the directory.
func write(t *testing.T, s *Store, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, r Record) []byte {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedFilesAreNamedAndPutAside(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Save(record("good")); err != nil {
		t.Fatal(err)
	}
	b := encoded(t, record("half"))
	write(t, s, "half@eth0.json", b[:len(b)/2])
	for _, damaged := range []int{1, 0} {
		got, err := s.Load(nil)
		if err != nil || len(got.Records) != 1 || got.Records[0].ContainerID != "good" {
			t.Errorf("loaded %+v, %v", got, err)
		}
		if len(got.Damaged) != damaged {
			t.Errorf("damaged: %v, want %d", got.Damaged, damaged)
		}
		for _, err := range got.Damaged {
			if !strings.Contains(err.Error(), "half@eth0.json") {
				t.Errorf("error %v does not name the file", err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "half@eth0.json.damaged")); err != nil {
		t.Error(err)
	}
}

func TestNewerFileIsRefusedAndNothingTouched(t *testing.T) {
	s := open(t, t.TempDir())
	newer := record("newer")
	newer.Version = Version + 1
	write(t, s, "newer@eth0.json", encoded(t, newer))
	// Whatever a newer version means by its fields.
	write(t, s, "strange@eth0.json", []byte(`{"version": 2, "containerID": {}}`))
	write(t, s, "damaged@eth0.json", []byte("{"))
	for range 2 {
		if got, err := s.Load(nil); !errors.Is(err, ErrNewer) || got.Records != nil {
			t.Errorf("loaded %+v, %v, want %v", got, err, ErrNewer)
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v, want the three files", entries, err)
	}
}

func TestRecordsOfAnEarlierBootAreStale(t *testing.T) {
	s := open(t, t.TempDir())
	old := record("old")
	old.Version, old.BootID = Version, "another"
	write(t, s, "old@eth0.json", encoded(t, old))
	got, err := s.Load(nil)
	if err != nil || got.Records != nil || len(got.Stale) != 1 || got.Stale[0] != old.Key {
		t.Errorf("loaded %+v, %v, want one stale key", got, err)
	}
}

func TestOrderlyIsSaidOnce(t *testing.T) {
	s := open(t, t.TempDir())
	want := func(when string, want bool) {
		t.Helper()
		if got, err := s.TakeOrderly(); err != nil || got != want {
			t.Errorf("%s: orderly %t, %v, want %t", when, got, err, want)
		}
	}
	want("at first", false)
	if err := s.MarkOrderly(); err != nil {
		t.Fatal(err)
	}
	want("marked", true)
	want("asked again", false)
}

func TestOneStoreAtATime(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("second store: %v, want %v", err, ErrInUse)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSaveFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "attachments")); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(record("a")); err == nil {
		t.Error("saved into a directory that is gone")
	}
}

// A file that cannot be removed is removed later, unless it was written anew.
func TestTidy(t *testing.T) {
	s := open(t, t.TempDir())
	stuck := filepath.Join(s.dir, "a@eth0.json")
	inside := filepath.Join(stuck, "inside")
	jam := func() {
		t.Helper()
		if err := os.MkdirAll(inside, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(record("a").Key); err == nil || !strings.Contains(err.Error(), stuck) {
			t.Errorf("remove: %v, want an error that names %s", err, stuck)
		}
		if err := s.Tidy(); err == nil {
			t.Error("tidied what cannot be removed")
		}
		if err := s.Save(record("a")); err == nil || !strings.Contains(err.Error(), stuck) {
			t.Errorf("save: %v, want an error that names %s", err, stuck)
		}
		if err := os.Remove(inside); err != nil {
			t.Fatal(err)
		}
	}
	jam()
	if err := s.Tidy(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(stuck); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	jam()
	if err := os.Remove(stuck); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(record("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(); err != nil {
		t.Error(err)
	}
	if got, err := s.Load(nil); err != nil || len(got.Records) != 1 {
		t.Errorf("loaded %+v, %v, want the new record", got, err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(record("seed"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-5])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err == nil && (r.Version != Version || r.Key.Validate() != nil) {
			t.Errorf("accepted %+v", r)
		}
	})
}
