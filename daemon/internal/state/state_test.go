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
	for _, r := range want {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := s.Remove(want[0].Key); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = s.Load(); err != nil || len(got) != 1 || got[0].ContainerID != "b" {
		t.Errorf("after removal: %v, %v", got, err)
	}
}

func TestLoadReportsWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Save(record("good")); err != nil {
		t.Fatal(err)
	}
	newer := record("newer")
	newer.Version = Version + 1
	b, err := json.Marshal(newer)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{"newer@eth0.json": b, "half@eth0.json": b[:len(b)/2]}
	for name, content := range bad {
		if err := os.WriteFile(filepath.Join(dir, "attachments", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Load()
	if len(got) != 1 || got[0].ContainerID != "good" {
		t.Errorf("loaded %v", got)
	}
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
		if _, err := os.Stat(filepath.Join(dir, "attachments", name)); err != nil {
			t.Errorf("an unreadable file was touched: %v", err)
		}
	}
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
