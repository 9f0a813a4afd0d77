// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"reflect"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// verified is a selector that the tables of the netns agreed with in a
// generation: the kernel counts the changes of all tables in a netns.
type verified struct {
	generation uint32
	selector   hook.Selector
}

// Verify compares the table's owner and rules with what Arm makes of s, unless no
// table of the netns has changed since they were found right. The socket is in the
// netns, so nothing has to enter it.
func (t *table) Verify(_ netns.Place, s hook.Selector) error {
	generation, err := t.generation()
	if err != nil {
		return err
	}
	now := verified{generation: generation, selector: s}
	if generation != 0 && reflect.DeepEqual(now, t.verified) {
		return nil
	}
	l, err := newLayout(&s, t.heeded, t.hook.native)
	if err != nil {
		return err
	}
	if err := t.check(&l); err != nil {
		return err
	}
	t.verified = now
	return nil
}

// generation asks how often the tables of the netns have changed.
func (t *table) generation() (uint32, error) {
	const attrGenerationID = 1 // NFTA_GEN_ID
	var id uint32
	err := t.conn.get("", unix.NFT_MSG_GETGEN, func(ad *netlink.AttributeDecoder) error {
		for ad.Next() {
			if ad.Type() == attrGenerationID {
				id = ad.Uint32()
			}
		}
		return nil
	})
	return id, err
}
