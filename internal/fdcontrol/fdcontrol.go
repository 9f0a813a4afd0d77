// SPDX-License-Identifier: Apache-2.0

// Package fdcontrol works on the descriptor behind a file or a connection, which
// stays its owner's. The functions may be called concurrently, also with the
// owner's Close.
package fdcontrol

import (
	"os"
	"syscall"
)

// Do calls fn with the descriptor behind c, which stays open meanwhile, and
// returns fn's error. Where c is closed already, it fails and does not call fn.
func Do(c syscall.Conn, fn func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Duplicate returns a close-on-exec duplicate of the descriptor behind c, as a
// file of this name. The caller closes it.
func Duplicate(c syscall.Conn, name string) (*os.File, error) {
	var duplicate uintptr
	err := Do(c, func(fd int) error {
		got, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd),
			syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			return os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", errno)
		}
		duplicate = got
		return nil
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(duplicate, name), nil
}
