// SPDX-License-Identifier: Apache-2.0

// Package nft is the hook that consists of an nftables table in each netns.
//
// The table has an owner, the socket of its handle: nobody else can change or
// flush it, whatever capabilities he has in the netns, while the socket is
// open. From Linux 6.9 on the table also outlives its owner, and a later
// process takes it over.
package nft

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
	if err != nil {
		return errors.Join(err, t.Close())
	}
	return t.Remove()
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
	name string // of the table, none while we have not looked
	// have is what the kernel has in the table, nil while we do not know.
	have *contents
	// stale are the sets that an earlier process left.
	stale []string
	// verified is what the last Verify found right.
	verified verified
	// kept says that the table has been ours since it was armed.
	kept bool
	// remake says that the table has no owner and may hold anything.
	remake bool
	// heeded are the directions in which requests are heeded, and whose packets
	// lose forged ones: those in which flows could ever be settled.
	heeded hook.Directions
}

func (t *table) check(l *layout) error {
	if err := t.checkOwner(); err != nil {
		return fmt.Errorf("%w: %w", hook.ErrNotArmed, err)
	}
	have, sum, err := t.listRules()
	if err != nil {
		return fmt.Errorf("%w: list rules: %w", hook.ErrNotArmed, err)
	}
	for _, c := range l.chains {
		var want [][]string
		for _, r := range c.rules {
			want = append(want, r.names())
		}
		if !slices.EqualFunc(have[c.name], want, slices.Equal[[]string]) {
			return fmt.Errorf("%w: chain %s has rules %v, want %v",
				hook.ErrNotArmed, c.name, have[c.name], want)
		}
	}
	if want := l.chains[0].comment; sum != want {
		return fmt.Errorf("%w: rules are others: %q, want %q", hook.ErrNotArmed, sum, want)
	}
	return t.checkContents(l.contents())
}

// checkContents compares the names of chains and sets; those of sets tell how
// flows are settled.
func (t *table) checkContents(want *contents) error {
	have, err := t.list()
	if err != nil {
		return fmt.Errorf("%w: list chains and sets: %w", hook.ErrNotArmed, err)
	}
	for _, c := range []struct {
		what       string
		have, want []string
	}{{"chains", have.chains, want.chains}, {"sets", have.sets, want.sets}} {
		if len(c.have) != len(c.want) || len(missing(c.want, c.have)) > 0 {
			return fmt.Errorf("%w: %s are %v, want %v", hook.ErrNotArmed, c.what, c.have, c.want)
		}
	}
	return nil
}

func (t *table) checkOwner() error {
	if t.name == "" {
		if _, err := t.choose(); err != nil {
			return err
		}
	}
	port, err := t.conn.socket.PortID()
	if err != nil {
		return err
	}
	h, err := t.holder(t.name)
	if err == nil && (!h.owned() || h.port != port) {
		return fmt.Errorf("table inet %s belongs to port %d, not to %d", t.name, h.port, port)
	}
	return err
}

// listRules returns the names of each rule's expressions, by chain, and the
// comment that tells the rest.
func (t *table) listRules() (rules map[string][][]string, sum string, err error) {
	rules = make(map[string][][]string)
	err = t.conn.list(t.name, unix.NFT_MSG_GETRULE, func(ad *netlink.AttributeDecoder) error {
		var chain string
		var names []string
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = ad.String()
			case unix.NFTA_RULE_EXPRESSIONS:
				ad.Nested(expressionNames(&names))
			case unix.NFTA_RULE_USERDATA:
				if b := ad.Bytes(); chain == defragChain && len(b) > 3 {
					sum = string(b[2 : len(b)-1])
				}
			}
		}
		rules[chain] = append(rules[chain], names)
		return nil
	})
	return rules, sum, err
}

// expressionNames collects the names in a list of expressions.
func expressionNames(into *[]string) func(*netlink.AttributeDecoder) error {
	return func(list *netlink.AttributeDecoder) error {
		for list.Next() {
			list.Nested(func(e *netlink.AttributeDecoder) error {
				for e.Next() {
					if e.Type() == unix.NFTA_EXPR_NAME {
						*into = append(*into, e.String())
					}
				}
				return nil
			})
		}
		return nil
	}
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

// Delete deletes the table, also one that a predecessor left. Another program's
// is not ours to delete. The kernel frees what is deleted a grace period later,
// and closing an owner socket meanwhile waits for that.
func (t *table) Delete() error { return t.explain("delete", t.delete()) }

// Remove deletes the table and closes the owner socket.
func (t *table) Remove() error { return errors.Join(t.Delete(), t.Close()) }

func (t *table) delete() error {
	port, err := t.conn.socket.PortID()
	if err != nil {
		return err
	}
	var requests []request
	for _, name := range []string{tableName, secondName} {
		h, err := t.holder(name)
		if err != nil {
			return err
		}
		if h.rank(port) >= rankOrphan {
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
