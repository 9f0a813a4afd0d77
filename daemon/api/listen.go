// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

const (
	socketDirMode = 0o711
	socketMode    = 0o600
)

// Listen makes the socket at path, readable and writable by the owner only,
// from the first moment on. A missing directory is made with mode 0711. A
// socket that no process serves is replaced; one that is served is an error, and
// so is a file that is no socket.
func Listen(path string) (*net.UnixListener, error) {
	if err := MakeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	l, err := listenPrivate(path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("replace %s: %w", path, err)
	}
	return listenPrivate(path)
}

// ObserverSocket is where a daemon whose API is at the socket serves observers,
// which may only look.
func ObserverSocket(socket string) string {
	return filepath.Join(filepath.Dir(socket), "observe.sock")
}

// observerMode lets the group connect as well.
const observerMode = 0o660

// ListenObservers is Listen for observers: a group, by its ID, may
// connect as well, unless it is negative.
func ListenObservers(path string, group int) (*net.UnixListener, error) {
	l, err := Listen(path)
	if err != nil || group < 0 {
		return l, err
	}
	// No other user can connect before the group is the right one.
	if err := errors.Join(os.Lchown(path, -1, group), os.Chmod(path, observerMode)); err != nil {
		return nil, errors.Join(fmt.Errorf("let group %d connect: %w", group, err), l.Close())
	}
	return l, nil
}

// MakeSocketDir makes the directory of the socket where it is missing, with
// mode 0711. It leaves the mode of a directory that exists alone.
func MakeSocketDir(dir string) error {
	switch _, err := os.Stat(dir); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(dir, socketDirMode); err != nil {
		return err
	}
	return os.Chmod(dir, socketDirMode) // whatever the umask has made of it
}

// removeStale removes a socket only when it is certain that no process serves it:
// a server with a full backlog answers otherwise (EAGAIN).
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file is not a socket")
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("another process serves it: %w", syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// listenPrivate listens at path. The socket gets its mode before it gets its
// name (Linux takes over the mode of the unnamed socket), so that there is no
// moment in which others could connect.
func listenPrivate(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) {
			chmodErr = os.NewSyscallError("fchmod", syscall.Fchmod(int(fd), socketMode))
		})
		return errors.Join(err, chmodErr)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}
