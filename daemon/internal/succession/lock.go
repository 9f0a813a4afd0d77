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
	err = l.take()
	if err == nil && !l.isAt(path) { // Clear has removed it meanwhile
		err = ErrHeld
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// isAt reports whether the file at a path is this one.
func (l *Lock) isAt(path string) bool {
	var own, there unix.Stat_t
	return unix.Fstat(l.fd, &own) == nil && unix.Stat(path, &there) == nil &&
		own.Dev == there.Dev && own.Ino == there.Ino
}

// Clear removes what supervisors have left in a directory that they shared. Where one of
// them is active, nothing is removed.
func Clear(dir string) {
	if l, err := TryLock(dir); err == nil {
		l.Clear(dir)
		l.Close()
	}
}

// Clear does it for who holds the lock.
func (l *Lock) Clear(dir string) {
	for _, name := range []string{socketName, retirementName, lockName} {
		_ = os.Remove(filepath.Join(dir, name)) // it may not be there
	}
}

// Name writes into the lock whose supervisor has it.
func (l *Lock) Name(instance string) error {
	if err := unix.Ftruncate(l.fd, 0); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	_, err := unix.Pwrite(l.fd, []byte(instance), 0)
	return os.NewSyscallError("pwrite", err)
}

// maxInstance is longer than the names of a namespace and of a release.
const maxInstance = 1 << 10

// ActiveInstance returns the instance of the supervisor that is active in a directory, and
// whether there is one.
func ActiveInstance(dir string) (instance string, active bool) {
	fd, err := unix.Open(filepath.Join(dir, lockName),
		unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", false
	}
	l := &Lock{fd: fd}
	defer l.Close()
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return "", false
	}
	b := make([]byte, maxInstance)
	n, err := unix.Pread(fd, b, 0)
	return string(b[:max(n, 0)]), err == nil
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
	path := filepath.Join(dir, lockName)
	l := &Lock{fd: fd}
	if !l.isAt(path) {
		return nil, fmt.Errorf("the lock that was handed over is not %s: both supervisors "+
			"need the same directory there", path)
	}
	return l, l.take() // which changes nothing where it is held
}

// FD returns the descriptor to hand over.
func (l *Lock) FD() int { return l.fd }

// Close lets go of this process' copy.
func (l *Lock) Close() { _ = unix.Close(l.fd) }
