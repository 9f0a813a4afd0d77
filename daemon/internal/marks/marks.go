// SPDX-License-Identifier: Apache-2.0

// Package marks finds what in a netns reads the packet mark, or changes it: routing
// rules, nftables, and iptables of both kinds. It changes nothing there, and reads
// what any program with CAP_NET_ADMIN in the netns may have written.
package marks

import (
	"errors"
	"slices"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// Use is one place where bits of the packet mark matter.
type Use struct {
	// Where it is, as the tools name it.
	Where string
	// Sets: it changes the bits. Otherwise it looks at them.
	Sets bool
	// Mask are the bits.
	Mask uint32
}

// maxUses bounds what is told of one netns, and patience how long it may take:
// there may be any number of rules.
const (
	maxUses  = 16
	patience = 2 * time.Second
)

// Find returns the uses of bits under a mask in a netns, each place once. What
// could be found is returned together with the error.
func Find(ns *netns.NetNS, mask uint32) ([]Use, error) {
	f := &finder{mask: mask, deadline: time.Now().Add(patience)}
	err := errors.Join(f.rules(ns), f.tables(ns), f.legacy(ns))
	return f.uses, err
}

// finder collects uses.
type finder struct {
	mask     uint32
	deadline time.Time
	uses     []Use
}

func (f *finder) add(u Use) {
	if u.Mask&f.mask == 0 || len(f.uses) == maxUses || slices.Contains(f.uses, u) {
		return
	}
	f.uses = append(f.uses, u)
}
