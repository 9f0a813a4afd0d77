// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Types of nft's language (enum datatypes in its datatype.h). The kernel keeps
// them for the command that lists a set.
const (
	typeInteger  = 4
	typeIPv4     = 7
	typeIPv6     = 8
	typeProtocol = 12
	typePort     = 13

	typeBits = 6 // of each type in a concatenation
)

// set is a set of the table. One with elements is anonymous: it belongs to the
// rule that refers to its ID in the same batch, and goes with it.
type set struct {
	id        uint32
	name      string
	flags     uint32
	keyType   uint32
	keyLength int
	hostOrder bool
	timeout   time.Duration
	size      uint32
	elements  []element
}

// element of a set or, with a chain to go to, of a verdict map.
type element struct {
	key   []byte
	chain string
}

// concat returns the type of a key that consists of several.
func concat(types ...uint32) uint32 {
	var all uint32
	for _, t := range types {
		all = all<<typeBits | t
	}
	return all
}

func newSet(s *set) request {
	return request{
		kind: unix.NFT_MSG_NEWSET, flags: netlink.Create,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_SET_NAME, s.name)
			ae.Uint32(unix.NFTA_SET_ID, s.id)
			flags, size := s.flags, s.size
			if s.elements != nil {
				flags |= unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT
				size = uint32(len(s.elements))
			}
			ae.Uint32(unix.NFTA_SET_FLAGS, flags)
			ae.Uint32(unix.NFTA_SET_KEY_TYPE, s.keyType)
			ae.Uint32(unix.NFTA_SET_KEY_LEN, uint32(s.keyLength))
			if flags&unix.NFT_SET_MAP != 0 {
				ae.Uint32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
			}
			if s.timeout != 0 {
				ae.Uint64(unix.NFTA_SET_TIMEOUT, uint64(s.timeout.Milliseconds()))
			}
			ae.Nested(unix.NFTA_SET_DESC, func(desc *netlink.AttributeEncoder) error {
				desc.Uint32(unix.NFTA_SET_DESC_SIZE, size)
				return nil
			})
			if s.hostOrder {
				// For the command that lists it: the key's byte order (0), in 4
				// bytes, is the host's (1).
				ae.Bytes(unix.NFTA_SET_USERDATA, append([]byte{0, 4}, native32(1)...))
			}
			return nil
		},
	}
}

func newElements(s *set) request {
	return request{
		kind: unix.NFT_MSG_NEWSETELEM, flags: netlink.Create,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_SET_ELEM_LIST_SET, s.name)
			ae.Uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, s.id)
			ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list *netlink.AttributeEncoder) error {
				for _, e := range s.elements {
					list.Nested(unix.NFTA_LIST_ELEM, e.encode)
				}
				return nil
			})
			return nil
		},
	}
}

func (e element) encode(ae *netlink.AttributeEncoder) error {
	ae.Nested(unix.NFTA_SET_ELEM_KEY, func(key *netlink.AttributeEncoder) error {
		key.Bytes(unix.NFTA_DATA_VALUE, e.key)
		return nil
	})
	if e.chain == "" {
		return nil
	}
	ae.Nested(unix.NFTA_SET_ELEM_DATA, func(data *netlink.AttributeEncoder) error {
		data.Nested(unix.NFTA_DATA_VERDICT, func(verdict *netlink.AttributeEncoder) error {
			verdict.Int32(unix.NFTA_VERDICT_CODE, unix.NFT_GOTO)
			verdict.String(unix.NFTA_VERDICT_CHAIN, e.chain)
			return nil
		})
		return nil
	})
	return nil
}

func deleteSet(name string) request {
	return request{
		kind: unix.NFT_MSG_DELSET,
		attrs: func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.NFTA_SET_NAME, name)
			return nil
		},
	}
}
