// SPDX-License-Identifier: Apache-2.0

// Package nft is the hook that consists of an nftables table in each netns.
//
// The table has an owner, the socket of its handle: no other program can change or
// flush it, whatever capabilities it has in the netns, while the socket is open.
// From Linux 6.9 on the table also outlives its owner, and a later process takes it
// over.
package nft

import (
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// Flags of a table, and the attribute of its owner (linux/netfilter/nf_tables.h).
const (
	flagOwner      = 0x2
	flagPersist    = 0x4 // Linux 6.9
	attrTableOwner = 7
)

// Hook makes tables by what the running kernel has. See [hook.Hook].
type Hook struct {
	native  bool // nft_queue, else xt NFQUEUE through nft_compat
	persist bool // tables outlive their owner
	buffers nlsock.Buffers
}

// New finds out what the kernel has, by trying it in a netns of its own.
func New() (*Hook, error) {
	ns, err := netns.New()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h := &Hook{native: true, persist: true}
	if err := h.probe(ns); errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		h.persist = false
	}
	if err := h.probe(ns); errors.Is(err, unix.ENOENT) {
		h.native = false
	}
	if err := h.probe(ns); err != nil {
		return nil, fmt.Errorf("nftables needs owner tables (Linux 5.12), nft_objref, nft_tproxy, "+
			"and nft_queue or nft_compat with xt_NFQUEUE: %w: %w", hook.ErrNotSupported, err)
	}
	return h, nil
}

// probe arms a netns and takes the table out again.
func (h *Hook) probe(ns *netns.NetNS) error {
	t, err := h.Open(ns, nil)
	if err != nil {
		return err
	}
	_, err = t.Arm(hook.Selector{Directions: hook.AllDirections})
	if err == nil {
		err = t.Remove()
	}
	return errors.Join(err, t.Close())
}

// Kind returns [hook.NFTables].
func (*Hook) Kind() hook.Kind { return hook.NFTables }

// Describe names the kernel's means that the hook uses.
func (h *Hook) Describe() string {
	queue, owner := "xt NFQUEUE", "owner table that dies with the daemon"
	if h.native {
		queue = "native queue"
	}
	if h.persist {
		owner = "persistent owner table"
	}
	return queue + ", " + owner
}

// Present is always true: nftables does not go once it is there.
func (*Hook) Present() bool { return true }

// Persistent reports whether the kernel keeps the table of a closed socket.
func (h *Hook) Persistent() bool { return h.persist }

// Open opens the owner socket, or goes on with an inherited one, to whose port
// the table still belongs; the table is made, or taken over, by Arm.
func (h *Hook) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	c, err := connect(ns, inherited, &h.buffers)
	if err != nil {
		return nil, err
	}
	return &table{hook: h, conn: c}, nil
}

// table is the hook in one netns.
type table struct {
	hook *Hook
	conn conn
	name string // of the table, none while it is not chosen
	// have is what the kernel has in the table, nil while that is not known.
	have *contents
	// stale are the sets that an earlier process left.
	stale []string
	// verified is what the last Verify found right.
	verified verified
	// kept says that the table has belonged to the socket since it was armed.
	kept bool
	// remake says that the table has no owner and may hold anything.
	remake bool
	// heeded are the directions in which requests are heeded, and whose packets
	// lose forged ones: those in which flows could ever be settled.
	heeded hook.Directions
}

// Counters reads the table's counter objects.
func (t *table) Counters() (hook.Counters, error) {
	if t.name == "" { // never armed
		return hook.Counters{}, nil
	}
	packets := make(map[string]uint64)
	err := t.conn.list(t.name, unix.NFT_MSG_GETOBJ, func(ad *netlink.AttributeDecoder) error {
		var name string
		var count uint64
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_OBJ_NAME:
				name = ad.String()
			case unix.NFTA_OBJ_DATA:
				ad.Nested(func(data *netlink.AttributeDecoder) error {
					for data.Next() {
						if data.Type() == unix.NFTA_COUNTER_PACKETS {
							count = data.Uint64()
						}
					}
					return nil
				})
			}
		}
		packets[name] = count
		return nil
	})
	return hook.Counters{
		Queued: packets[counterQueued], Exempt: packets[counterExempt],
		Settled: packets[counterSettled],
	}, err
}

// Remove deletes the table, also one that a predecessor left, but no other
// program's. The kernel frees what is deleted a grace period later, and closing an
// owner socket meanwhile waits for that.
func (t *table) Remove() error { return t.explain("delete", t.remove()) }

func (t *table) remove() error {
	port, err := t.conn.socket.PortID()
	if err != nil {
		return err
	}
	var requests []request
	for _, name := range []string{firstName, secondName} {
		o, err := t.owner(name)
		if err != nil {
			return err
		}
		if o.rank(port) >= rankOrphan {
			requests = append(requests, request{table: name, kind: unix.NFT_MSG_DELTABLE})
		}
	}
	if requests == nil {
		return nil
	}
	return t.conn.transact(requests)
}

// Close closes the owner socket.
func (t *table) Close() error { return t.conn.socket.Close() }

// File returns the owner socket.
func (t *table) File() *os.File { return t.conn.socket.File() }
