// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook/hooktest"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestLoad loads the module in each way that there is: by the command, and by
// the system call with what the file depends on.
func TestLoad(t *testing.T) {
	release, err := kernelRelease()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(modulesDir, release)
	for name, load := range map[string]func() error{
		"command":   func() error { return Load("") },
		"file":      func() error { return Load(filepath.Join(dir, "updates/nsqueue.ko")) },
		"installed": func() error { return loadFile(dir, "") },
	} {
		err := unix.DeleteModule("nsqueue", 0)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
		if Loaded() {
			t.Fatal("the module is still loaded")
		}
		for range 2 { // loading it again changes nothing
			if err := load(); err != nil || !Loaded() {
				t.Errorf("%s: loaded %t, %v", name, Loaded(), err)
			}
		}
	}
}

// mountedElsewhere mounts the sysctls of the network as for a container whose own are
// read-only, and returns where.
func mountedElsewhere(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(DefaultSysctls, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Where the sysctls are read-only, the module is not used, and the error says what to do.
func TestReadOnlySysctls(t *testing.T) {
	if err := Load(""); err != nil {
		t.Fatal(err)
	}
	dir := mountedElsewhere(t)
	err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir); !errors.Is(err, unix.EROFS) ||
		!strings.Contains(err.Error(), "kmodSysctls") {
		t.Errorf("%v", err)
	}
	if _, err := New(DefaultSysctls); err != nil {
		t.Error(err)
	}
}

// TestContract runs where the module can be loaded, see test/vm.
func TestContract(t *testing.T) {
	if err := Load(""); err != nil {
		t.Fatal(err)
	}
	h, err := New(mountedElsewhere(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(h.Describe())
	hooktest.Run(t, h)
	hooktest.RunSettle(t, h)
}

// TestSettledStreams compares both hooks in the same kernel.
func TestSettledStreams(t *testing.T) {
	if err := Load(""); err != nil {
		t.Fatal(err)
	}
	module, err := New(DefaultSysctls)
	nstest.Must(t, err)
	tables, err := nft.New()
	nstest.Must(t, err)
	hooktest.Streams(t, module, tables)
}
