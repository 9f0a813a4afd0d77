// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"reflect"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// proof is a selector that the tables of the netns agreed with in a generation:
// the kernel counts the changes of all tables in a netns.
type proof struct {
	generation uint32
	selector   hook.Selector
}

// Prove checks again only if any table of the netns has changed.
func (t *table) Prove(_ netns.Place, s hook.Selector) error {
	generation, err := t.generation()
	if err != nil {
		return err
	}
	p := proof{generation: generation, selector: s}
	if generation != 0 && reflect.DeepEqual(p, t.proved) {
		return nil
	}
	if err := t.Check(s); err != nil {
		return err
	}
	t.proved = p
	return nil
}

// generation asks how often the tables of the netns have changed.
func (t *table) generation() (uint32, error) {
	const attrGenerationID = 1 // NFTA_GEN_ID
	var id uint32
	err := t.conn.get(request{kind: unix.NFT_MSG_GETGEN},
		func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == attrGenerationID {
					id = ad.Uint32()
				}
			}
			return nil
		})
	return id, err
}
