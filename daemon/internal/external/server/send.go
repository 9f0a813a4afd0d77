// SPDX-License-Identifier: Apache-2.0

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendParts sends two parts as one message, without waiting. It allocates nothing.
func sendParts(fd int, head, data []byte) unix.Errno {
	parts := [2]unix.Iovec{{Base: unsafe.SliceData(head)}, {Base: unsafe.SliceData(data)}}
	parts[0].SetLen(len(head))
	parts[1].SetLen(len(data))
	m := unix.Msghdr{Iov: &parts[0]}
	m.SetIovlen(len(parts))
	for {
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno != unix.EINTR {
			return errno
		}
	}
}
