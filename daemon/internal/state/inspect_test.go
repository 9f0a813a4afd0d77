// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
)

// contents returns the names and texts of all files below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			all[path] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	if n, damaged, err := state.Inspect(filepath.Join(dir, "none")); n != 0 || damaged != nil || err != nil {
		t.Errorf("no directory: %d, %v, %v", n, damaged, err)
	}
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() // another process has it
	key := api.Key{ContainerID: "a", Ifname: "eth0"}
	if err := store.Save(state.Record{Key: key, FailurePolicy: api.Fail}); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "attachments", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("b@eth0.json", "{")
	file("c@eth0.json.damaged", "{")
	before := contents(t, dir)
	n, damaged, err := state.Inspect(dir)
	if n != 1 || len(damaged) != 1 || err != nil {
		t.Errorf("%d, %v, %v, want one record and one damaged", n, damaged, err)
	}
	file("d@eth0.json", `{"version":99}`)
	before[filepath.Join(dir, "attachments", "d@eth0.json")] = `{"version":99}`
	if _, _, err := state.Inspect(dir); !errors.Is(err, state.ErrNewer) {
		t.Errorf("a newer file: %v", err)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("it has changed files (-before +after):\n%s", diff)
	}
}

// What was read ahead is what is loaded, but for files that have changed since.
func TestReadAhead(t *testing.T) {
	dir := t.TempDir()
	store, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	save := func(id, network string) {
		t.Helper()
		err := store.Save(state.Record{
			Key:     api.Key{ContainerID: id, Ifname: "eth0"},
			Network: network, FailurePolicy: api.Fail,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"gone", "changed", "same", "damaged"} {
		save(id, "one")
	}
	var ahead state.Ahead
	if n, _, err := ahead.Read(dir); n != 4 || err != nil {
		t.Fatalf("%d, %v, want four records", n, err)
	}
	save("changed", "two") // as long as before
	save("new", "two")
	damaged := filepath.Join(dir, "attachments", "damaged@eth0.json")
	err = errors.Join(store.Remove(api.Key{ContainerID: "gone", Ifname: "eth0"}),
		os.Remove(damaged), os.WriteFile(damaged, []byte("{"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Load(&ahead)
	if err != nil || len(got.Damaged) != 1 {
		t.Errorf("%v, damaged: %v", err, got.Damaged)
	}
	networks := make(map[string]string)
	for _, r := range got.Records {
		networks[r.ContainerID] = r.Network
	}
	want := map[string]string{"changed": "two", "same": "one", "new": "two"}
	if diff := cmp.Diff(want, networks); diff != "" {
		t.Error(diff)
	}
}

func TestInspectWhatIsNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := state.Inspect(file); err == nil {
		t.Error("a file is taken for the state directory")
	}
}
