// SPDX-License-Identifier: Apache-2.0

package marks

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// all are the bits of a whole mark.
const all = ^uint32(0)

// tables looks at the rules of nftables, which those of iptables-nft are, too.
func (f *finder) tables(ns *netns.NetNS) error {
	header := nlsock.AppendNetfilterHeader(nil, unix.NFPROTO_UNSPEC, 0)
	kind := uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE)
	err := f.list(ns, unix.NETLINK_NETFILTER, kind, header, f.tableRule)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // no nftables
		return nil
	}
	if err != nil {
		return fmt.Errorf("list nftables rules: %w", err)
	}
	return nil
}

func (f *finder) tableRule(body []byte) error {
	if len(body) < nlsock.NetfilterHeaderLen {
		return errors.New("nftables rule without a header")
	}
	ad, err := netlink.NewAttributeDecoder(body[nlsock.NetfilterHeaderLen:])
	if err != nil {
		return err
	}
	var table, chain string
	t := tracer{registers: map[uint32]contents{}}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			table = ad.String()
		case unix.NFTA_RULE_CHAIN:
			chain = ad.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(t.expressions)
		}
	}
	where := fmt.Sprintf("nft %s %.64s %.64s", familyName(body[0]), table, chain)
	f.add(Use{Where: where, Mask: t.reads})
	f.add(Use{Where: where, Sets: true, Mask: t.sets})
	return ad.Err()
}

func familyName(family byte) string {
	name, ok := map[byte]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
		unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge",
	}[family]
	if !ok {
		return fmt.Sprint(family)
	}
	return name
}

// contents are what of the mark is in a register: the bits that are left of it,
// and those that are others by now.
type contents struct{ left, changed uint32 }

// tracer follows the mark through the registers of a rule, expression by
// expression.
type tracer struct {
	registers   map[uint32]contents
	reads, sets uint32
}

func (t *tracer) expressions(list *netlink.AttributeDecoder) error {
	list.ByteOrder = binary.BigEndian
	for list.Next() {
		list.Nested(t.expression)
	}
	return nil
}

func (t *tracer) expression(e *netlink.AttributeDecoder) error {
	e.ByteOrder = binary.BigEndian
	var name string
	for e.Next() {
		switch e.Type() {
		case unix.NFTA_EXPR_NAME:
			name = e.String()
		case unix.NFTA_EXPR_DATA: // the name comes first
			e.Nested(func(data *netlink.AttributeDecoder) error {
				data.ByteOrder = binary.BigEndian
				t.step(name, attributesOf(data))
				return nil
			})
		}
	}
	return nil
}

// attributes are those of an expression, by their type.
type attributes map[uint16][]byte

func attributesOf(ad *netlink.AttributeDecoder) attributes {
	a := attributes{}
	for ad.Next() {
		a[ad.Type()] = ad.Bytes()
	}
	return a
}

// number returns a number, which nftables sends in network order; 0 for none.
func (a attributes) number(kind uint16) uint32 {
	if b := a[kind]; len(b) >= 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// value returns the data that a register is worked with: a mark is in host order.
func (a attributes) value(kind uint16) uint32 {
	const header = 4 // of the attribute in it, NFTA_DATA_VALUE
	if b := a[kind]; len(b) >= header+4 {
		return binary.NativeEndian.Uint32(b[header:])
	}
	return 0
}

// step follows one expression. The first register has two numbers, of 16 bytes
// and of 4 each.
func (t *tracer) step(name string, a attributes) {
	switch name {
	case "meta":
		if a.number(unix.NFTA_META_KEY) == unix.NFT_META_MARK {
			t.meta(a)
		} else {
			t.forget(a.number(unix.NFTA_META_DREG))
		}
	case "bitwise":
		from, to := register(a.number(unix.NFTA_BITWISE_SREG)), a.number(unix.NFTA_BITWISE_DREG)
		c, ok := t.registers[from]
		t.forget(to)
		if ok {
			t.registers[register(to)] = c.bitwise(
				a.value(unix.NFTA_BITWISE_MASK), a.value(unix.NFTA_BITWISE_XOR))
		}
	case "cmp":
		t.look(a.number(unix.NFTA_CMP_SREG))
	case "range":
		t.look(a.number(unix.NFTA_RANGE_SREG))
	case "lookup":
		t.look(a.number(unix.NFTA_LOOKUP_SREG))
	case "ct": // what is saved there comes back
		t.look(a.number(unix.NFTA_CT_SREG))
		t.forget(a.number(unix.NFTA_CT_DREG))
	case "immediate":
		t.forget(a.number(unix.NFTA_IMMEDIATE_DREG))
	case "payload":
		t.forget(a.number(unix.NFTA_PAYLOAD_DREG))
	case "match", "target": // of iptables
		t.extension(name, a)
	}
}

func (t *tracer) meta(a attributes) {
	if to := a.number(unix.NFTA_META_DREG); to != 0 {
		t.registers[register(to)] = contents{left: all}
		return
	}
	if c, ok := t.registers[register(a.number(unix.NFTA_META_SREG))]; ok {
		t.sets |= c.changed
		return
	}
	t.sets = all // by what has nothing to do with the old mark
}

// bitwise returns what is left by (mark & mask) ^ xor.
func (c contents) bitwise(mask, xor uint32) contents {
	return contents{left: c.left & mask, changed: c.changed | ^mask | xor}
}

func (t *tracer) look(from uint32) { t.reads |= t.registers[register(from)].left }

func (t *tracer) forget(to uint32) { delete(t.registers, register(to)) }

// register gives the registers of 4 bytes, and those of 16 that they are in, one
// number.
func register(number uint32) uint32 {
	if number >= unix.NFT_REG_1 && number <= unix.NFT_REG_4 {
		return unix.NFT_REG32_00 + 4*(number-unix.NFT_REG_1)
	}
	return number
}

func (t *tracer) extension(kind string, a attributes) {
	x := extension{
		target: kind == "target", name: name(a[unix.NFTA_TARGET_NAME]),
		revision: a.number(unix.NFTA_TARGET_REV), info: a[unix.NFTA_TARGET_INFO],
	}
	reads, sets := x.marks()
	t.reads |= reads
	t.sets |= sets
}
