// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

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
