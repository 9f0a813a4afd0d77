// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func TestListenModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077} {
		dir := filepath.Join(filepath.Dir(apitest.SocketPath(t)), "new")
		path := filepath.Join(dir, "s")
		old := syscall.Umask(umask)
		l, err := api.Listen(path)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		wantMode(t, dir, fs.ModeDir|0o711)
		wantMode(t, path, fs.ModeSocket|(0o600&^fs.FileMode(umask)))
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("socket is there after its server: %v", err)
		}
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("mode of %s is %v, want %v", path, info.Mode(), want)
	}
}

func TestListenLeavesDirectoryAlone(t *testing.T) {
	path := apitest.SocketPath(t) // in a directory with mode 0700
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantMode(t, filepath.Dir(path), fs.ModeDir|0o700)
}

func TestListenReplacesStaleSocket(t *testing.T) {
	path := apitest.SocketPath(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	l, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var d apitest.Daemon
	d.Serve(t, l)
	if _, err := api.NewClient(path).List(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestListenRefusesLiveSocket(t *testing.T) {
	var d apitest.Daemon
	path := d.Start(t)
	if _, err := api.Listen(path); !errors.Is(err, syscall.EADDRINUSE) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("listen: %v", err)
	}
	if _, err := api.NewClient(path).List(t.Context()); err != nil {
		t.Errorf("the live server is gone: %v", err)
	}
}

// A server that is too busy to be connected to is there all the same.
func TestListenRefusesBusySocket(t *testing.T) {
	path := apitest.SocketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
	if err != nil {
		t.Fatal(err)
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	for {
		c, err := net.DialUnix("unix", nil, addr)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := api.Listen(path); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("listen: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of the busy server is gone: %v", err)
	}
}

func TestListenRefusesOtherFiles(t *testing.T) {
	dir := filepath.Dir(apitest.SocketPath(t))
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if l, err := api.Listen(path); err == nil {
			t.Errorf("listening at %s", path)
			_ = l.Close()
		}
	}
	if data, err := os.ReadFile(link); err != nil || string(data) != "precious" {
		t.Errorf("file has %q, %v", data, err)
	}
	if l, err := api.Listen(filepath.Join(file, "s")); err == nil {
		t.Error("listening under a file")
		_ = l.Close()
	}
}
