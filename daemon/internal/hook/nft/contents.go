// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// contents are the names of what the kernel has in the table.
type contents struct {
	chains, sets []string
}

// contents returns what the kernel will list, without the anonymous sets.
func (l *layout) contents() *contents {
	c := &contents{}
	for _, ch := range l.chains {
		c.chains = append(c.chains, ch.name)
	}
	for _, s := range l.sets {
		c.sets = append(c.sets, s.name)
	}
	return c
}

// missing returns the names that others lacks.
func missing(names, others []string) []string {
	var left []string
	for _, n := range names {
		if !slices.Contains(others, n) {
			left = append(left, n)
		}
	}
	return left
}

// list returns what the kernel has.
func (t *table) list() (*contents, error) {
	chains, err := t.names(unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME)
	if err != nil {
		return nil, err
	}
	sets, err := t.names(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	if err != nil {
		return nil, err
	}
	sets = slices.DeleteFunc(sets, func(name string) bool { return strings.HasPrefix(name, "__") })
	return &contents{chains: chains, sets: sets}, nil
}

// names lists the objects of a kind in the table.
func (t *table) names(kind, tableAttr, nameAttr uint16) ([]string, error) {
	var names []string
	err := t.conn.list("", kind, func(ad *netlink.AttributeDecoder) error {
		var in, name string
		for ad.Next() {
			switch ad.Type() {
			case tableAttr:
				in = ad.String()
			case nameAttr:
				name = ad.String()
			}
		}
		if in == t.name {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
