// SPDX-License-Identifier: Apache-2.0

// Package fdcontrol works on the descriptor behind a file or a connection, which
// stays its owner's. The functions may be called concurrently, also with the
// owner's Close.
package fdcontrol

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"
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

// Peer returns what the process at the other end of a unix socket was when it
// connected or, seen from a client, when it called listen (SO_PEERCRED).
func Peer(c syscall.Conn) (*syscall.Ucred, error) {
	var peer *syscall.Ucred
	err := Do(c, func(fd int) error {
		var err error
		peer, err = syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	})
	return peer, err
}

const (
	soPeerGroups = 59 // SO_PEERGROUPS
	// maxGroups is what the kernel lets a process have (NGROUPS_MAX).
	maxGroups = 65536
)

// PeerGroups returns the supplementary groups of the process at the other end of a unix
// socket, as [Peer] returns its user and its group.
func PeerGroups(c syscall.Conn) (groups []uint32, err error) {
	err = Do(c, func(fd int) error {
		for n := 32; ; n = maxGroups {
			b := make([]byte, 4*n)
			size := uint32(len(b))
			_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd),
				syscall.SOL_SOCKET, soPeerGroups, uintptr(unsafe.Pointer(&b[0])),
				uintptr(unsafe.Pointer(&size)), 0)
			if errors.Is(errno, syscall.ERANGE) && n < maxGroups {
				continue
			}
			if errno != 0 {
				return os.NewSyscallError("getsockopt SO_PEERGROUPS", errno)
			}
			for at := 0; at+4 <= int(size); at += 4 {
				groups = append(groups, binary.NativeEndian.Uint32(b[at:]))
			}
			return nil
		}
	})
	return groups, err
}
