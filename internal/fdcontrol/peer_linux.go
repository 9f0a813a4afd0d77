// SPDX-License-Identifier: Apache-2.0

package fdcontrol

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// Cred is who a process is.
type Cred = syscall.Ucred

// Peer returns what the process at the other end of a unix socket was when it
// connected or, seen from a client, when it called listen (SO_PEERCRED).
func Peer(c syscall.Conn) (*Cred, error) {
	var peer *Cred
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

// HungUp reports whether the peer has closed its end. The kernel refuses even an
// empty message then. A peer that has only ended its half of the conversation
// still takes the answer.
func HungUp(c syscall.Conn) bool {
	err := Do(c, func(fd int) error {
		_, err := syscall.SendmsgN(fd, nil, nil, nil, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT)
		return err
	})
	return err != nil && !errors.Is(err, syscall.EAGAIN)
}
