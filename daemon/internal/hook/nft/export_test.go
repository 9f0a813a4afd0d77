// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"io"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// MakeOwnedTable makes a table that belongs to the socket that it returns, and goes
// with it.
func MakeOwnedTable(ns *netns.NetNS, name string) (io.Closer, error) {
	c, err := connect(ns, nil, nil)
	if err != nil {
		return nil, err
	}
	t := table{hook: &Hook{}, name: name, conn: c}
	return c.socket, t.transact([]request{t.newTable()})
}
