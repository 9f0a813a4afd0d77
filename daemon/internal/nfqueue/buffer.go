// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SetReceiveBuffer changes the size of the socket's receive buffer. What waits
// in it stays there.
func (q *Queue) SetReceiveBuffer(size int) error {
	return q.control(func(fd int) error { return setReceiveBuffer(fd, size) })
}

// setReceiveBuffer halves the size, because the kernel doubles it.
func setReceiveBuffer(fd, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2)
	if errors.Is(err, unix.EPERM) { // in a user namespace: up to rmem_max
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size/2)
	}
	return os.NewSyscallError("setsockopt SO_RCVBUF", err)
}

// GrantedBuffer returns what the kernel grants of a receive buffer, in any netns:
// the limit for those without CAP_NET_ADMIN is the node's net.core.rmem_max.
func GrantedBuffer(size int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC,
		unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := setReceiveBuffer(fd, size); err != nil {
		return 0, err
	}
	granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return granted, os.NewSyscallError("getsockopt SO_RCVBUF", err)
}
