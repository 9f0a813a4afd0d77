// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// MakeOwnedTable makes a table that belongs to the socket and goes with it.
func MakeOwnedTable(socket *os.File, name string) error {
	err := fdcontrol.Do(socket, func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err != nil {
		return err
	}
	t := table{hook: &Hook{}, name: name, conn: &conn{file: socket, buffers: &buffers{}}}
	return t.transact([]request{t.newTable()})
}
