// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// owner says which netlink socket a table of the hook's names belongs to.
type owner struct {
	exists bool // the table
	flags  uint32
	port   uint32 // of the socket
}

// owned reports a table that only its owner can change.
func (o *owner) owned() bool { return o.flags&flagOwner != 0 }

// orphan reports a table that outlived its owner and can be taken over.
func (o *owner) orphan() bool { return o.exists && o.flags == flagPersist }

// Ranks of a table, the higher the better for a handle.
const (
	rankForeign = iota // another program owns it
	rankFree
	rankOrphan
	rankOwn
)

// rank is that of the table for the handle whose socket has the port.
func (o *owner) rank(port uint32) int {
	switch {
	case o.owned() && o.port == port:
		return rankOwn
	case o.owned():
		return rankForeign
	case o.orphan():
		return rankOrphan
	}
	return rankFree
}

// foreign is the error about a table that another program owns.
func (o *owner) foreign(name string) error {
	return fmt.Errorf("table inet %s belongs to netlink port %d: %w", name, o.port, hook.ErrForeign)
}

// owner asks the kernel for the owner of a table.
func (t *table) owner(name string) (owner, error) {
	var o owner
	err := t.conn.get(name, unix.NFT_MSG_GETTABLE, func(ad *netlink.AttributeDecoder) error {
		o.exists = true
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_TABLE_FLAGS:
				o.flags = ad.Uint32()
			case attrTableOwner:
				o.port = ad.Uint32()
			}
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return owner{}, nil
	}
	return o, err
}

// chooseName decides which name the handle's table has: that of the table that
// belongs to its socket, else that of one that a predecessor left, else the first one
// that no other program owns. A table of these names without an owner is the
// handle's, whatever is in it.
//
// A handle never changes its name afterwards: it could take the first one once that
// is free, but deleting the table of the second would drop every packet that waits in
// the netns, and gain nothing.
//
// The warning names the program that has the first name, if there is one.
func (t *table) chooseName() (warning, err error) {
	port, err := t.conn.socket.PortID()
	if err != nil {
		return nil, err
	}
	t.name, t.kept, t.remake = "", false, false
	best := rankForeign
	for _, name := range []string{firstName, secondName} {
		o, err := t.owner(name)
		if err != nil {
			return nil, err
		}
		rank := o.rank(port)
		if rank > best {
			best, t.name = rank, name
			t.kept, t.remake = rank == rankOwn, rank == rankFree && o.exists
		}
		if name == firstName && rank == rankForeign {
			warning = o.foreign(name)
		}
	}
	if t.name == "" {
		return nil, errors.Join(hook.ErrForeign, warning)
	}
	return warning, nil
}

// lookAgain warns where another program has the first name still.
func (t *table) lookAgain() (warning, err error) {
	if t.name == firstName {
		return nil, nil
	}
	o, err := t.owner(firstName)
	if err != nil || !o.owned() {
		return nil, err
	}
	return o.foreign(firstName), nil
}

// transact carries out requests about the handle's table, all or none.
func (t *table) transact(requests []request) error {
	for i := range requests {
		requests[i].table = t.name
	}
	return t.conn.transact(requests)
}
