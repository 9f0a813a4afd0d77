// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another supervisor is the active one.
var ErrHeld = errors.New("another supervisor is active")

// Lock is what makes a supervisor the active one. It belongs to the open file
// description (flock), of which a copy goes to the successor: from one to the next
// there is no moment without a holder. It is never unlocked, only closed.
type Lock struct{ fd int }

// TryLock takes the lock of a directory, which is made where it is missing. Its
// error is ErrHeld where another process has it.
func TryLock(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockName)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	l := &Lock{fd: fd}
	if err := l.take(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lock) take() error {
	err := unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrHeld
	}
	return os.NewSyscallError("flock", err)
}

// AdoptLock checks that a descriptor is the lock of the directory, and held by
// it.
func AdoptLock(dir string, fd int) (*Lock, error) {
	var got, want unix.Stat_t
	path := filepath.Join(dir, lockName)
	if err := unix.Fstat(fd, &got); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if err := unix.Stat(path, &want); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if got.Dev != want.Dev || got.Ino != want.Ino {
		return nil, fmt.Errorf("the lock that was handed over is not %s: both supervisors "+
			"need the same directory there", path)
	}
	l := &Lock{fd: fd}
	return l, l.take() // which changes nothing where it is held
}

// FD returns the descriptor to hand over.
func (l *Lock) FD() int { return l.fd }

// Close lets go of this process' copy.
func (l *Lock) Close() { _ = unix.Close(l.fd) }
