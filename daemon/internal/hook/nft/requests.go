// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func (t *table) newTable() request {
	flags := uint32(flagOwner)
	if t.hook.persist {
		flags |= flagPersist
	}
	return request{
		kind: unix.NFT_MSG_NEWTABLE, flags: netlink.Create,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.Uint32(unix.NFTA_TABLE_FLAGS, flags)
			return nil
		},
	}
}

func deleteTable() request { return request{kind: unix.NFT_MSG_DELTABLE} }

func newCounter(name string) request {
	return request{
		kind: unix.NFT_MSG_NEWOBJ, flags: netlink.Create,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_OBJ_NAME, name)
			ae.Uint32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
			ae.Nested(unix.NFTA_OBJ_DATA, func(*netlink.AttributeEncoder) error { return nil })
			return nil
		},
	}
}

// newChain makes a chain; one without a hook point is only called by others.
func newChain(c *chain) request {
	return request{
		kind: unix.NFT_MSG_NEWCHAIN, flags: netlink.Create,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_CHAIN_NAME, c.name)
			if c.point == nil {
				return nil
			}
			ae.Nested(unix.NFTA_CHAIN_HOOK, func(hookAttrs *netlink.AttributeEncoder) error {
				hookAttrs.Uint32(unix.NFTA_HOOK_HOOKNUM, *c.point)
				hookAttrs.Int32(unix.NFTA_HOOK_PRIORITY, priority)
				return nil
			})
			ae.String(unix.NFTA_CHAIN_TYPE, "filter")
			return nil
		},
	}
}

func flushChain(name string) request {
	return request{
		kind: unix.NFT_MSG_DELRULE,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_RULE_CHAIN, name)
			return nil
		},
	}
}

func deleteChain(name string) request {
	return request{
		kind: unix.NFT_MSG_DELCHAIN,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_CHAIN_NAME, name)
			return nil
		},
	}
}

func newRules(c *chain) []request {
	var requests []request
	for _, r := range c.rules {
		requests = append(requests, newRule(c.name, r, c.comment, netlink.Append))
	}
	return requests
}

// newRule makes a rule at the end of the chain, or without netlink.Append, at
// its beginning.
func newRule(chain string, r rule, comment string, where netlink.HeaderFlags) request {
	return request{
		kind: unix.NFT_MSG_NEWRULE, flags: netlink.Create | where,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_RULE_CHAIN, chain)
			ae.Nested(unix.NFTA_RULE_EXPRESSIONS, r.encode)
			if comment != "" {
				ae.Bytes(unix.NFTA_RULE_USERDATA, userdata(comment))
			}
			return nil
		},
	}
}

// userdata is a comment as the nft command writes it: its type (0), its length,
// and it with a zero at its end.
func userdata(comment string) []byte {
	b := append([]byte{0, byte(len(comment) + 1)}, comment...)
	return append(b, 0)
}

func (r rule) encode(ae *netlink.AttributeEncoder) error {
	for _, e := range r {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return fmt.Errorf("encode expression %T: %w", e, err)
		}
		ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, b)
	}
	return nil
}
