// SPDX-License-Identifier: Apache-2.0

// Package nlsock is what the owners of netlink sockets have in common. It owns
// no socket itself.
package nlsock

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// PortID returns the socket's netlink address, by which the kernel knows it.
func PortID(f *os.File) (uint32, error) {
	var port uint32
	err := fdcontrol.Do(f, func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		if nl, ok := sa.(*unix.SockaddrNetlink); ok {
			port = nl.Pid
		}
		return nil
	})
	return port, err
}
