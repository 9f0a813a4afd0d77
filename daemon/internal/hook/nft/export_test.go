// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"os"

	"golang.org/x/sys/unix"
)

// MakeOwnedTable makes a table that belongs to the socket and goes with it.
func MakeOwnedTable(fd int, name string) error {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), name)
	defer file.Close()
	t := table{hook: &Hook{}, name: name, conn: &conn{file: file, buffers: &buffers{}}}
	return t.transact([]request{t.newTable()})
}
