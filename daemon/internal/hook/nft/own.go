// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// holding is who has a table of one of our names.
type holding struct {
	exists bool
	flags  uint32
	port   uint32 // of the owner's socket
}

// orphan reports a table that outlived its owner and can be taken over.
func (h *holding) orphan() bool { return h.exists && h.flags == flagPersist }

// owned reports a table that only its owner can change.
func (h *holding) owned() bool { return h.flags&flagOwner != 0 }

// holder asks the kernel for a table.
func (t *table) holder(name string) (holding, error) {
	var h holding
	err := t.conn.get(name, unix.NFT_MSG_GETTABLE, func(ad *netlink.AttributeDecoder) error {
		h.exists = true
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_TABLE_FLAGS:
				h.flags = ad.Uint32()
			case attrTableOwner:
				h.port = ad.Uint32()
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return holding{}, nil
	}
	return h, err
}

// choose decides which table is ours: the one that belongs to our socket, else
// one that a predecessor left, else the first name that no other program owns.
// What has our name and no owner is ours, whatever is in it.
//
// A handle never changes its name afterwards: it could give the first one back
// to itself once that is free, but deleting the table of the second would drop
// every packet that waits in the netns, and gain nothing.
//
// The warning names the program that has the first name, if there is one.
func (t *table) choose() (warning, err error) {
	port, err := t.conn.socket.PortID()
	if err != nil {
		return nil, err
	}
	t.name, t.kept, t.remake = "", false, false
	best := 0
	for _, name := range []string{tableName, secondName} {
		h, err := t.holder(name)
		if err != nil {
			return nil, err
		}
		if rank := h.rank(port); rank > best {
			best, t.name = rank, name
			t.kept, t.remake = rank == rankOurs, rank == rankFree && h.exists
		}
		if name == tableName && h.owned() && h.port != port {
			warning = heldBy(&h)
		}
	}
	if t.name == "" {
		return nil, errors.Join(hook.ErrForeign, warning)
	}
	return warning, nil
}

// Ranks of a table's holders, the higher the better for us.
const (
	rankFree = iota + 1
	rankOrphan
	rankOurs
)

func (h *holding) rank(port uint32) int {
	switch {
	case h.owned() && h.port == port:
		return rankOurs
	case h.owned():
		return 0
	case h.orphan():
		return rankOrphan
	}
	return rankFree
}

func heldBy(h *holding) error {
	return fmt.Errorf("table inet %s belongs to netlink port %d: %w",
		tableName, h.port, hook.ErrForeign)
}

// lookAgain finds out whether the first name is still somebody else's.
func (t *table) lookAgain() (warning, err error) {
	if t.name == tableName {
		return nil, nil
	}
	h, err := t.holder(tableName)
	if err != nil || !h.owned() {
		return nil, err
	}
	return heldBy(&h), nil
}

// transact carries out requests that are about our table.
func (t *table) transact(requests []request) error {
	for i := range requests {
		requests[i].table = t.name
	}
	return t.conn.transact(requests)
}
