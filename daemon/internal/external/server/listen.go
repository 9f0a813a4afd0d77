// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// listen makes the socket. One that no process serves any more is replaced.
func (s *Server) listen() (*net.UnixListener, error) {
	path := s.config.Socket
	if err := api.MakeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	l, err := listenPrivate(path)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, fmt.Errorf("replace %s: %w", path, err)
		}
		l, err = listenPrivate(path)
	}
	if err != nil {
		return nil, err
	}
	if err := s.open(path); err != nil {
		return nil, errors.Join(fmt.Errorf("let the inspector's user connect: %w", err), l.Close())
	}
	return l, nil
}

// open lets those connect who may. Nobody but root could before.
func (s *Server) open(path string) error {
	if s.config.UID < 0 && s.config.GID < 0 {
		return nil
	}
	mode := fs.FileMode(0o600)
	if s.config.GID >= 0 {
		mode = 0o660
	}
	return errors.Join(os.Lchown(path, s.config.UID, s.config.GID), os.Chmod(path, mode))
}

// listenPrivate makes a socket to which only root can connect.
func listenPrivate(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) {
			chmodErr = os.NewSyscallError("fchmod", unix.Fchmod(int(fd), 0o600))
		})
		return errors.Join(err, chmodErr)
	}}
	l, err := lc.Listen(context.Background(), "unixpacket", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket that no process serves.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file is not a socket")
	}
	const kind = unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case err == nil, errors.Is(err, unix.EAGAIN): // EAGAIN: its backlog is full
		return fmt.Errorf("another process serves it: %w", unix.EADDRINUSE)
	default:
		return os.NewSyscallError("connect", err)
	}
}
