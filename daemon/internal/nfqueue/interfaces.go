// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"os"

	"golang.org/x/sys/unix"
)

// InterfaceIndex returns the index of an interface of the netns; the error is
// ENODEV where there is none of that name.
func (q *Queue) InterfaceIndex(name string) (uint32, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = q.ioctl(unix.SIOCGIFINDEX, request)
	return request.Uint32(), os.NewSyscallError("ioctl SIOCGIFINDEX", err)
}

// HasInterface returns nil if the netns has an interface with the index, whatever
// its name; the error is ENODEV where it has none.
func (q *Queue) HasInterface(index uint32) error {
	request, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	request.SetUint32(index)
	return os.NewSyscallError("ioctl SIOCGIFNAME", q.ioctl(unix.SIOCGIFNAME, request))
}

// ioctl asks the kernel about the netns of the queue's socket.
func (q *Queue) ioctl(request uint, arg *unix.Ifreq) error {
	return q.control(func(fd int) error { return unix.IoctlIfreq(fd, request, arg) })
}
