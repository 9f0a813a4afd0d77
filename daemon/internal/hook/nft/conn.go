// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"errors"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// conn is a netfilter netlink socket inside a netns, which speaks nftables.
type conn struct{ socket *nlsock.Socket }

// connect takes over the inherited socket, or where there is none, opens one.
func connect(ns *netns.NetNS, inherited *os.File, b *nlsock.Buffers) (conn, error) {
	var err error
	var socket *nlsock.Socket
	if inherited != nil {
		socket, err = nlsock.OpenInherited(inherited, unix.NETLINK_NETFILTER, ns.ID().Cookie, b)
	} else {
		socket, err = nlsock.Open(ns, unix.NETLINK_NETFILTER, b)
	}
	return conn{socket}, err
}

// request is one message of a batch.
type request struct {
	table string
	kind  uint16 // NFT_MSG_…
	flags netlink.HeaderFlags
	attrs func(*netlink.AttributeEncoder) error
}

// transact carries out all requests or none.
func (c conn) transact(requests []request) error {
	batch, last, err := c.batch(requests)
	if err != nil {
		return err
	}
	done := false
	err = c.socket.Exchange(batch, func(m nlsock.Message) error {
		if m.Type != unix.NLMSG_ERROR {
			return nil
		}
		done = done || m.Sequence == last
		return nlsock.Errno(m.Body)
	})
	if err == nil && !done {
		return errors.New("nftables batch: no reply from the kernel")
	}
	return err
}

// batch encodes requests between the two messages that make them one, and returns
// the sequence number of the last one, which the kernel acknowledges.
func (c conn) batch(requests []request) (b []byte, last uint32, err error) {
	b = c.appendBound(nil, unix.NFNL_MSG_BATCH_BEGIN)
	for i, r := range requests {
		flags := netlink.Request | r.flags
		if i == len(requests)-1 {
			flags |= netlink.Acknowledge
		}
		body, err := r.body()
		if err != nil {
			return nil, 0, err
		}
		last = c.socket.Sequence()
		h := nlsock.Header{Type: nftType(r.kind), Flags: uint16(flags), Sequence: last}
		b = h.Append(b, body)
	}
	return c.appendBound(b, unix.NFNL_MSG_BATCH_END), last, nil
}

// appendBound appends the message that begins or ends a batch.
func (c conn) appendBound(b []byte, kind uint16) []byte {
	h := nlsock.Header{Type: kind, Flags: unix.NLM_F_REQUEST, Sequence: c.socket.Sequence()}
	return h.Append(b, nlsock.AppendNetfilterHeader(nil, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

// decode reads the attributes of an object.
type decode func(*netlink.AttributeDecoder) error

// get asks for a table or, without a name, for what belongs to none.
func (c conn) get(table string, kind uint16, each decode) error {
	body, err := (&request{table: table}).body()
	if err != nil {
		return err
	}
	return c.socket.Get(nftType(kind), body, decoded(each))
}

// list asks for all objects of a kind, in a table or, without a name, in all.
func (c conn) list(table string, kind uint16, each decode) error {
	body, err := (&request{table: table}).body()
	if err != nil {
		return err
	}
	return c.socket.Dump(nftType(kind), body, decoded(each))
}

// decoded calls each with the attributes of a body.
func decoded(each decode) func(body []byte) error {
	return func(body []byte) error {
		if len(body) < nlsock.NetfilterHeaderLen {
			return errors.New("nftables reply without a netfilter header")
		}
		ad, err := netlink.NewAttributeDecoder(body[nlsock.NetfilterHeaderLen:])
		if err != nil {
			return err
		}
		ad.ByteOrder = binary.BigEndian
		return errors.Join(each(ad), ad.Err())
	}
}

func nftType(kind uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | kind }

// body returns the header and the attributes. The table comes first, and its
// attribute has the same number in all requests.
func (r *request) body() ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	if r.table != "" {
		ae.String(unix.NFTA_TABLE_NAME, r.table)
	}
	if r.attrs != nil {
		if err := r.attrs(ae); err != nil {
			return nil, err
		}
	}
	attrs, err := ae.Encode()
	b := make([]byte, 0, nlsock.NetfilterHeaderLen+len(attrs))
	return append(nlsock.AppendNetfilterHeader(b, unix.NFPROTO_INET, 0), attrs...), err
}
