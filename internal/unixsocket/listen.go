// SPDX-License-Identifier: Apache-2.0

// Package unixsocket makes unix sockets that only those can reach who may.
package unixsocket

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
	dirMode   = 0o711
	ownerMode = 0o600
	groupMode = 0o660 // lets a group connect as well
)

// Listen makes the socket of a network, unix or unixpacket, at path, readable and
// writable by the owner only, from the first moment on. A missing directory is made with
// mode 0711. A socket that no process serves is replaced; one that is served is an error,
// and so is a file that is no socket.
func Listen(network, path string) (*net.UnixListener, error) {
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	l, err := listenPrivate(network, path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if err := removeStale(network, path); err != nil {
		return nil, fmt.Errorf("replace %s: %w", path, err)
	}
	return listenPrivate(network, path)
}

// Admit gives the socket at path to a user and a group, by their IDs, and lets the group
// connect. An ID that is negative is none, and changes nothing.
func Admit(path string, uid, gid int) error {
	if uid < 0 && gid < 0 {
		return nil
	}
	mode := fs.FileMode(ownerMode)
	if gid >= 0 {
		mode = groupMode
	}
	// No other user can connect before the owners are the right ones.
	return errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, mode))
}

// MakeDir makes the directory of a socket where it is missing, with mode 0711. It leaves
// the mode of a directory that exists alone.
func MakeDir(dir string) error {
	switch _, err := os.Stat(dir); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	return os.Chmod(dir, dirMode) // whatever the umask has made of it
}

// removeStale removes a socket only when it is certain that no process serves it:
// a server with a full backlog answers otherwise (EAGAIN).
func removeStale(network, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file is not a socket")
	}
	c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
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
func listenPrivate(network, path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) {
			chmodErr = os.NewSyscallError("fchmod", syscall.Fchmod(int(fd), ownerMode))
		})
		return errors.Join(err, chmodErr)
	}}
	l, err := lc.Listen(context.Background(), network, path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}
