// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/boottime"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func inode(t *testing.T, info fs.FileInfo) uint64 {
	t.Helper()
	return info.Sys().(*syscall.Stat_t).Ino
}

// open opens a new spool until the test ends.
func open(t *testing.T) (*spool.Dir, string) {
	t.Helper()
	path := spool.Path(filepath.Join(t.TempDir(), "nsqueue", "nsqueued.sock"))
	d, err := spool.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, path
}

// files lists the directory.
func files(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	nstest.Must(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOpenMakesDirectories(t *testing.T) {
	old := syscall.Umask(0o077)
	_, path := open(t)
	syscall.Umask(old)
	for dir, want := range map[string]fs.FileMode{path: 0o700, filepath.Dir(path): 0o711} {
		info, err := os.Stat(dir)
		nstest.Must(t, err)
		if info.Mode() != fs.ModeDir|want {
			t.Errorf("mode of %s is %v, want %v", dir, info.Mode(), want)
		}
	}
	d, err := spool.Open(path)
	nstest.Must(t, err)
	nstest.Must(t, d.Close())
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	nstest.Must(t, os.Mkdir(own, 0o700))
	for name, test := range map[string]struct {
		make     func(path string) error
		mentions string
	}{
		"symlink":   {func(p string) error { return os.Symlink(own, p) }, "not a directory"},
		"dangling":  {func(p string) error { return os.Symlink(filepath.Join(dir, "x"), p) }, "not a directory"},
		"file":      {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "not a directory"},
		"fifo":      {func(p string) error { return syscall.Mkfifo(p, 0o600) }, "not a directory"},
		"writable":  {func(p string) error { return mkdir(p, 0o777) }, "mode 0777"},
		"group":     {func(p string) error { return mkdir(p, 0o720) }, "mode 0720"},
		"sticky":    {func(p string) error { return mkdir(p, 0o777|fs.ModeSticky) }, "mode 0777"},
		"in a file": {func(p string) error { return os.WriteFile(filepath.Dir(p), nil, 0o600) }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name, "spool")
			if name != "in a file" {
				nstest.Must(t, os.Mkdir(filepath.Dir(path), 0o755))
			}
			nstest.Must(t, test.make(path))
			d, err := spool.Open(path)
			if err == nil {
				_ = d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.mentions) {
				t.Errorf("%v, want an error with %q", err, test.mentions)
			}
		})
	}
	if left := files(t, own); len(left) != 0 {
		t.Errorf("made behind the link: %v", left)
	}
}

func mkdir(path string, mode fs.FileMode) error {
	return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode))
}

func TestOpenRefusesOtherOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	path := filepath.Join(t.TempDir(), "spool")
	nstest.Must(t, os.Mkdir(path, 0o700))
	nstest.Must(t, os.Chown(path, 65534, 65534))
	if _, err := spool.Open(path); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("%v, want a word about the owner", err)
	}
}

func TestWriteReadRemove(t *testing.T) {
	d, path := open(t)
	key := testKey()
	if f, err := d.Read(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of nothing: %+v, %v", f, err)
	}
	add, del := testAdd(t, key), testDel(t, key)
	for _, e := range []*spool.Entry{add, del, add, del} { // the last one wins
		nstest.Must(t, d.Write(e))
		f, err := d.Read(key)
		nstest.Must(t, err)
		if diff := cmp.Diff(e, &f.Entry); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.Verb, diff)
		}
	}
	if diff := cmp.Diff([]string{"c0ffee@eth0.json"}, files(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(path, "c0ffee@eth0.json"))
	nstest.Must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	f, err := d.Read(key)
	nstest.Must(t, err)
	for range 2 {
		nstest.Must(t, d.Remove(f))
	}
	if left := files(t, path); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A file that was written after the reading is not removed.
func TestRemoveSparesNewerEntry(t *testing.T) {
	d, path := open(t)
	nstest.Must(t, d.Write(testDel(t, testKey())))
	old, err := d.Read(testKey())
	nstest.Must(t, err)
	newer := testAdd(t, testKey())
	nstest.Must(t, d.Write(newer))
	nstest.Must(t, d.Remove(old))
	f, err := d.Read(testKey())
	nstest.Must(t, err)
	if diff := cmp.Diff(newer, &f.Entry); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if left := files(t, path); len(left) != 1 {
		t.Errorf("files %v, want one", left)
	}
}

// Writers and a remover at full speed: what was removed is what was read.
func TestRemoveAgainstWriters(t *testing.T) {
	const rounds = 200
	d, path := open(t)
	var last time.Duration
	var writer sync.WaitGroup
	writer.Go(func() {
		for range rounds {
			e := testDel(t, testKey())
			last = e.Called
			if err := d.Write(e); err != nil {
				t.Error(err)
			}
		}
	})
	var seen time.Duration
	for range rounds {
		f, err := d.Read(testKey())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		nstest.Must(t, err)
		seen = f.Called
		nstest.Must(t, d.Remove(f))
	}
	writer.Wait()
	f, err := d.Read(testKey())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if seen != last {
			t.Errorf("the last entry is gone, unread")
		}
	case err != nil || f.Called != last:
		t.Errorf("left %+v, %v; want the last entry", f, err)
	}
	if left := files(t, path); len(left) > 1 {
		t.Errorf("left: %v", left)
	}
}

func TestList(t *testing.T) {
	d, path := open(t)
	if keys, foreign, err := d.List(); len(keys)+len(foreign) != 0 || err != nil {
		t.Errorf("empty directory: %v, %v, %v", keys, foreign, err)
	}
	for _, key := range []api.Key{testKey(), {ContainerID: "a.b-c_d", Ifname: "ä@%2f+?#"}} {
		nstest.Must(t, d.Write(testDel(t, key)))
	}
	bad := []string{"README", "noifname.json", "@eth0.json", ".x@y.json", "a@b/.json", "..@eth0.json"}
	for _, name := range append(bad, ".new-1-2", ".taken-a@b.json") {
		if !strings.Contains(name, "/") {
			nstest.Must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
		}
	}
	keys, foreign, err := d.List()
	nstest.Must(t, err)
	if len(keys) != 2 || len(foreign) != 5 {
		t.Errorf("keys %v, foreign %q", keys, foreign)
	}
}

// Calls are discarded, and nothing else.
func TestDiscard(t *testing.T) {
	d, path := open(t)
	nstest.Must(t, d.Write(testDel(t, testKey())))
	for _, name := range []string{"README", ".new-1-2", ".taken-a@b.json"} {
		nstest.Must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
	}
	nstest.Must(t, spool.Discard(path))
	left, err := os.ReadDir(path)
	nstest.Must(t, err)
	if len(left) != 1 || left[0].Name() != "README" {
		t.Errorf("left: %v", left)
	}
	nstest.Must(t, spool.Discard(filepath.Join(path, "none")))
	if _, err := os.Stat(filepath.Join(path, "none")); err == nil {
		t.Error("a directory is made")
	}
}

func TestReadRefuses(t *testing.T) {
	d, path := open(t)
	file := filepath.Join(path, "c0ffee@eth0.json")
	other := marshal(t, testDel(t, api.Key{ContainerID: "other", Ifname: "eth0"}))
	write := func(b []byte) func() error {
		return func() error { return os.WriteFile(file, b, 0o600) }
	}
	for name, test := range map[string]struct {
		make     func() error
		mentions string
	}{
		"garbage":   {write([]byte("\x00\xff")), "invalid character"},
		"empty":     {write(nil), "end of JSON"},
		"other key": {write(other), "for other/eth0"},
		"huge":      {write(make([]byte, spool.MaxSize+1)), "more than"},
		"newer":     {write([]byte(`{"version":9}`)), "newer"},
		"fifo":      {func() error { return syscall.Mkfifo(file, 0o600) }, "not a regular file"},
		"directory": {func() error { return os.Mkdir(file, 0o700) }, "not a regular file"},
		"link out":  {func() error { return os.Symlink("/etc/passwd", file) }, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Must(t, test.make())
			f, err := d.Read(testKey())
			if err == nil || !strings.Contains(err.Error(), test.mentions) {
				t.Errorf("%+v, %v; want an error with %q", f, err, test.mentions)
			}
			nstest.Must(t, os.RemoveAll(file))
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	d, path := open(t)
	old := testDel(t, testKey())
	nstest.Must(t, d.Write(old))
	huge := testAdd(t, testKey())
	huge.Attach.Warnings = []string{strings.Repeat("x", spool.MaxSize)}
	for name, e := range map[string]*spool.Entry{
		"huge":      huge,
		"invalid":   {Version: 1, Verb: "GC", Key: testKey(), Called: 1, BootID: "b"},
		"newer":     {Version: 2, Verb: spool.Del, Key: testKey(), Called: 1, BootID: "b"},
		"not UTF-8": testDel(t, api.Key{ContainerID: "c0ffee", Ifname: "\xff"}),
	} {
		if err := d.Write(e); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	f, err := d.Read(testKey())
	nstest.Must(t, err)
	if diff := cmp.Diff(old, &f.Entry); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if left := files(t, path); len(left) != 1 {
		t.Errorf("files %v, want one", left)
	}
}

func TestFull(t *testing.T) {
	d, path := open(t)
	nstest.Must(t, d.Write(testDel(t, testKey())))
	for i := range spool.MaxFiles - 1 {
		nstest.Must(t, os.WriteFile(filepath.Join(path, fmt.Sprint(i)), nil, 0o600))
	}
	other := testDel(t, api.Key{ContainerID: "other", Ifname: "eth0"})
	if err := d.Write(other); !errors.Is(err, spool.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	nstest.Must(t, d.Write(testAdd(t, testKey()))) // replacing takes no room
	nstest.Must(t, os.Remove(filepath.Join(path, "0")))
	nstest.Must(t, d.Write(other))
}

// A daemon or a plugin may have been killed at any moment.
func TestRecover(t *testing.T) {
	d, path := open(t)
	join := func(name string) string { return filepath.Join(path, name) }
	lost, newer := testDel(t, testKey()), testDel(t, api.Key{ContainerID: "b", Ifname: "eth0"})
	nstest.Must(t, d.Write(lost))
	nstest.Must(t, os.Rename(join("c0ffee@eth0.json"), join(".taken-c0ffee@eth0.json")))
	nstest.Must(t, os.WriteFile(join(".taken-b@eth0.json"), []byte("older"), 0o600))
	nstest.Must(t, d.Write(newer))
	now := boottime.Now()
	writing := fmt.Sprintf(".new-1-%d", now-time.Second)
	abandoned := fmt.Sprintf(".new-1-%d", now-2*time.Minute)
	earlierBoot := fmt.Sprintf(".new-1-%d", now+time.Hour)
	hourAgo := time.Now().Add(-time.Hour) // as the wall clock has it, which was set
	for _, name := range []string{writing, abandoned, earlierBoot, ".new-1-x"} {
		nstest.Must(t, os.WriteFile(join(name), nil, 0o600))
		nstest.Must(t, os.Chtimes(join(name), hourAgo, hourAgo))
	}

	nstest.Must(t, d.Recover())
	want := []string{writing, "b@eth0.json", "c0ffee@eth0.json"}
	if diff := cmp.Diff(want, files(t, path)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, e := range []*spool.Entry{lost, newer} {
		f, err := d.Read(e.Key)
		nstest.Must(t, err)
		if diff := cmp.Diff(e, &f.Entry); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.Key, diff)
		}
	}
}
