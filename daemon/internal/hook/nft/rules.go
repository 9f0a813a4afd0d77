// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

const (
	// firstName is the table's; secondName where another program owns that one.
	firstName  = "nsqueue"
	secondName = "nsqueue-2"
	// priority is one after conntrack and defragmentation's neighbourhood at
	// -200, before everything that a pod usually installs.
	priority = -199

	counterQueued = "queued"
	counterExempt = "exempt"

	// defragChain is never called. Its tproxy rule makes the kernel reassemble
	// fragments before the hook, which takes no conntrack.
	defragChain = "defrag"

	arphrdLoopback = 772 // ARPHRD_LOOPBACK

	hopLimitOffset = 7 // in IPv6's header
)

// ICMPv6 types of multicast listener discovery (RFC 2710, 3810) and neighbour
// discovery (RFC 4861), and the hop limits that these have on their link.
const (
	firstMLD    = 130
	lastMLD     = 132
	mldv2Report = 143
	mldHopLimit = 1

	firstND    = 133
	lastND     = 137
	ndHopLimit = 255
)

// rule is a list of expressions.
type rule []expr.Any

// queueRules returns the rules of the base chain that queues. Packets of settled
// flows, which it is all about, meet as few rules as possible.
func queueRules(p *hookPoint, s *hook.Selector, native bool) []rule {
	rules := loopbackRules(p.device)
	if s.Settle.On() {
		rules = append(rules, rule{&expr.Verdict{Kind: expr.VerdictJump, Chain: lookupChain}})
	}
	rules = append(rules, neighbourRules(p.number)...)
	if len(s.Protocols) == 0 {
		return append(rules, selected(s, native))
	}
	for _, proto := range s.Protocols {
		rules = append(rules, slices.Concat(
			equals(expr.MetaKeyL4PROTO, []byte{proto}), selected(s, native)))
	}
	return rules
}

// selected returns the expressions that send a packet to its queue. A packet
// that waits never carries a request of its pod: settling may be switched on
// meanwhile.
func selected(s *hook.Selector, native bool) rule {
	r := rule{counter(counterQueued)}
	if !s.Settle.On() {
		r = append(r, clearRequest()...)
	}
	if s.Count() > 1 {
		return append(r, &expr.Verdict{Kind: expr.VerdictGoto, Chain: balanceChain})
	}
	return append(r, toQueue(s.Queue, s.Bypass, native))
}

// loopbackRules let pass what belongs to the loopback device.
func loopbackRules(device expr.MetaKey) []rule {
	if device == 0 {
		return nil
	}
	return []rule{slices.Concat(
		equals(device, binary.NativeEndian.AppendUint16(nil, arphrdLoopback)), exempt())}
}

// neighbourRules let pass what IPv6 cannot do without on a link. No neighbour is
// behind a router.
func neighbourRules(point uint32) []rule {
	if point == unix.NF_INET_FORWARD {
		return nil
	}
	return []rule{
		neighbourRule(ndHopLimit, typesOfCode0(firstND, lastND)),
		neighbourRule(mldHopLimit, typesOfCode0(firstMLD, lastMLD)),
		neighbourRule(mldHopLimit, rule{
			transport(0, 2), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{mldv2Report, 0}},
		}),
	}
}

// neighbourRule lets pass the ICMPv6 messages that have the hop limit: others
// may come from elsewhere.
func neighbourRule(hopLimit byte, messages rule) rule {
	return slices.Concat(
		// The family comes first: the same protocol number over IPv4 is no ICMPv6.
		equals(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6}),
		equals(expr.MetaKeyL4PROTO, []byte{inspect.ProtoICMPv6}),
		rule{
			&expr.Payload{
				DestRegister: 1, Base: expr.PayloadBaseNetworkHeader,
				Offset: hopLimitOffset, Len: 1,
			},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{hopLimit}},
		}, messages, exempt())
}

// typesOfCode0 matches ICMPv6 messages from one type to another.
func typesOfCode0(first, last byte) rule {
	return rule{
		transport(0, 1),
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{first}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{last}},
		transport(1, 1),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	}
}

// transport loads bytes of the transport header.
func transport(offset, length uint32) expr.Any {
	return &expr.Payload{
		DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length,
	}
}

func equals(key expr.MetaKey, value []byte) rule {
	return rule{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value},
	}
}

func exempt() rule {
	return rule{counter(counterExempt), &expr.Verdict{Kind: expr.VerdictReturn}}
}

func counter(name string) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}
}

// toQueue returns the expression that queues: nftables' own, or where the
// kernel is built without it, the target of xtables.
func toQueue(number uint16, bypass, native bool) expr.Any {
	if native {
		q := &expr.Queue{Num: number, Total: 1}
		if bypass {
			q.Flag = expr.QueueFlagBypass
		}
		return q
	}
	// struct xt_NFQ_info_v3, padded to the alignment of xtables.
	info := binary.NativeEndian.AppendUint16(nil, number)
	info = binary.NativeEndian.AppendUint16(info, 1)
	var flags uint16
	if bypass {
		flags = nfqFlagBypass
	}
	info = binary.NativeEndian.AppendUint16(info, flags)
	target := xt.Unknown(append(info, 0, 0))
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &target}
}

const nfqFlagBypass = 1 // NFQ_FLAG_BYPASS of xt_NFQUEUE.h

// defragRules hold IPv4 and IPv6 defragmentation.
func defragRules() []rule {
	return []rule{slices.Concat(equals(expr.MetaKeyL4PROTO, []byte{inspect.ProtoTCP}), rule{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, 1)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	})}
}

// names returns the names of a rule's expressions as the kernel lists them.
func (r rule) names() []string {
	names := make([]string, len(r))
	for i, e := range r {
		names[i] = expressionName(e)
	}
	return names
}

// expressionName is the kernel's name, which but for verdicts is that of the type.
func expressionName(e expr.Any) string {
	if _, ok := e.(*expr.Verdict); ok {
		return "immediate"
	}
	return strings.ToLower(reflect.TypeOf(e).Elem().Name())
}
