// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files in the directory that supervisors share.
const (
	socketName = "handover.sock"
	lockName   = "active.lock"
	// bindName is where a socket is bound before it gets its name.
	bindName = socketName + ".new"
)

// maxPath is the longest path of a socket (sun_path).
const maxPath = 107

// CheckDir reports a directory whose socket would have too long a path.
func CheckDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%q: want an absolute path", dir)
	}
	if path := filepath.Join(dir, bindName); len(path) > maxPath {
		return fmt.Errorf("%q: the path of its socket has %d bytes, want at most %d",
			dir, len(path), maxPath)
	}
	return nil
}

// Listener is where the active supervisor is found.
type Listener struct {
	fd   int
	path string
}

// Listen makes the socket in place of the one before. Call it only with the lock.
func Listen(dir string) (*Listener, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, err
	}
	l := &Listener{fd: fd, path: filepath.Join(dir, socketName)}
	if err := l.bind(filepath.Join(dir, bindName)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen at %s: %w", l.path, err)
	}
	return l, nil
}

func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX,
		unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

// bind gives the socket its name once it accepts connections, so that no one that
// looks for it finds none.
func (l *Listener) bind(before string) error {
	if err := os.Remove(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The mode comes before the name, so that it holds from the first moment.
	if err := unix.Fchmod(l.fd, 0o600); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(l.fd, &unix.SockaddrUnix{Name: before}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(l.fd, 16); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return os.Rename(before, l.path)
}

// FD returns the descriptor to poll.
func (l *Listener) FD() int { return l.fd }

// Accept returns the next connection, or ErrAgain. Its error otherwise says what is
// wrong with the one that has connected.
func (l *Listener) Accept() (*Conn, error) {
	fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR),
		errors.Is(err, unix.ECONNABORTED):
		return nil, ErrAgain
	case err != nil:
		return nil, os.NewSyscallError("accept", err)
	}
	if err := checkPeer(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return NewConn(fd), nil
}

// checkPeer wants root at the other end. The kernel translates the user to this
// user namespace; a process ID of another PID namespace it gives as zero.
func checkPeer(fd int) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d is connected: want root", cred.Uid)
	}
	return nil
}

// Close ends listening. The name stays: it may be another one's by now.
func (l *Listener) Close() { _ = unix.Close(l.fd) }

// Remove ends listening and removes the name. Call it only with the lock.
func (l *Listener) Remove() {
	_ = os.Remove(l.path)
	l.Close()
}

// Dial connects to the active supervisor. Its error matches fs.ErrNotExist or
// ECONNREFUSED where none listens, and ErrAgain where it has no room.
func Dial(dir string) (*Conn, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = checkPeer(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EAGAIN) {
			err = ErrAgain
		}
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return NewConn(fd), nil
}
