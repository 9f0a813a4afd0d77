// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// Chains of settled flows. The base chains send every packet to lookupChain
// before they queue it, from where those that open no connection come to
// flowsChain. They send the requests of verdicts to acceptChain and dropChain,
// and what opens a connection of TCP to endChain.
const (
	lookupChain = "settled"
	udpChain    = "settled_udp"
	quicChain   = "settled_quic"
	flowsChain  = "settled_flows"
	acceptChain = "settle_accept"
	dropChain   = "settle_drop"
	endChain    = "settle_end"

	counterSettled = "settled"
)

// IDs of the anonymous sets, each of which belongs to one rule, in a batch.
const (
	acceptProtocols = iota + 1
	dropProtocols
	queueNumbers
)

// Operations of a dynset expression.
const (
	opUpdate = unix.NFT_DYNSET_OP_UPDATE
	opDelete = 2 // NFT_DYNSET_OP_DELETE
)

// flows is a set of settled flows: one family, one verdict.
type flows struct {
	set
	family byte
	drop   bool
}

// settledFlows returns the sets of settled flows. Their names tell all of s,
// so that other settings, and above all another generation, mean other sets:
// a packet that is being judged by the rules of the old one can still settle
// its flow, but only in a set that no rule looks into any more.
func settledFlows(s hook.Settle) (accepted, dropped []flows) {
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		accepted = append(accepted, newFlows(s, family, false))
		dropped = append(dropped, newFlows(s, family, true))
	}
	return accepted, dropped
}

func newFlows(s hook.Settle, family byte, drop bool) flows {
	verdict, version, addr, length := "accept", 4, uint32(typeIPv4), 4
	if drop {
		verdict = "drop"
	}
	if family == unix.NFPROTO_IPV6 {
		version, addr, length = 6, typeIPv6, 16
	}
	return flows{family: family, drop: drop, set: set{
		name: fmt.Sprintf("%s%d_g%d_t%d_s%d", verdict, version,
			s.Generation, s.Timeout.Milliseconds(), s.Size),
		flags:     unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL,
		keyType:   concat(addr, addr, typeProtocol, typePort, typePort),
		keyLength: 2*length + 3*4,
		timeout:   s.Timeout.Round(time.Millisecond),
		size:      2 * s.Size, // both directions
	}}
}

// addSettle adds what is not part of a base chain.
func (l *layout) addSettle(s hook.Settle) {
	accepted, dropped := settledFlows(s)
	all := slices.Concat(accepted, dropped)
	for _, f := range all {
		l.sets = append(l.sets, f.set)
	}
	l.anonymous = append(l.anonymous,
		protocolSet(acceptProtocols), protocolSet(dropProtocols))
	l.chains = append(l.chains,
		chain{name: lookupChain, rules: lookups()},
		chain{name: udpChain, rules: udpLookups()},
		chain{name: quicChain, rules: quicLookups()},
		chain{name: flowsChain, rules: flowLookups(accepted, dropped)},
		chain{name: endChain, rules: endRules(all)},
		chain{name: acceptChain, rules: acceptRules(accepted, dropped)},
		chain{name: dropChain, rules: dropRules(accepted, dropped)})
}

// flowLookups decide for packets of settled flows. Most are accepted.
func flowLookups(accepted, dropped []flows) []rule {
	var rules []rule
	for i := range accepted {
		rules = append(rules,
			slices.Concat(accepted[i].match(), settled(expr.VerdictAccept)),
			slices.Concat(dropped[i].match(), settled(expr.VerdictDrop)))
	}
	return rules
}

func settled(v expr.VerdictKind) rule {
	return rule{counter(counterSettled), &expr.Verdict{Kind: v}}
}

// acceptRules settle a flow unless it is settled otherwise. A full set ends
// the rule and nothing else.
func acceptRules(accepted, dropped []flows) []rule {
	rules := []rule{clearRequest(), unlessPorts(acceptProtocols, expr.VerdictReturn)}
	for _, f := range dropped {
		rules = append(rules, append(f.match(), &expr.Verdict{Kind: expr.VerdictReturn}))
	}
	for _, f := range accepted {
		rules = append(rules, f.change(opUpdate)...)
	}
	return rules
}

// dropRules settle a flow, whatever it was before, and drop the packet.
func dropRules(accepted, dropped []flows) []rule {
	rules := []rule{unlessPorts(dropProtocols, expr.VerdictDrop)}
	for _, f := range accepted {
		rules = append(rules, f.change(opDelete)...)
	}
	for _, f := range dropped {
		rules = append(rules, f.change(opUpdate)...)
	}
	return append(rules, rule{&expr.Verdict{Kind: expr.VerdictDrop}})
}

// endRules make both directions of a packet's flow one that is not settled.
func endRules(all []flows) []rule {
	var rules []rule
	for _, f := range all {
		rules = append(rules, f.change(opDelete)...)
	}
	return rules
}

// settleRules are those of a base chain, which packets meet behind the queue.
// Almost none carries a request. A packet that opens a connection has ended its
// flow before it was queued; packets that waited before it may have settled the
// earlier connection since.
func settleRules(s hook.Settle) []rule {
	return append([]rule{
		endOpened(),
		append(requests(0), &expr.Verdict{Kind: expr.VerdictReturn}),
		append(requests(s.Request(false)),
			&expr.Verdict{Kind: expr.VerdictGoto, Chain: acceptChain}),
		append(requests(s.Request(true)),
			&expr.Verdict{Kind: expr.VerdictGoto, Chain: dropChain}),
	}, heedRules()...)
}

// heedRules settle nothing: of a request, only the packet's own verdict counts.
func heedRules() []rule {
	return []rule{
		append(maskedPriority(hook.SettleDrop),
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)},
			&expr.Verdict{Kind: expr.VerdictDrop}),
		clearRequest(),
	}
}

// requests matches packets whose priority carries the request.
func requests(bits uint32) rule {
	return append(maskedPriority(hook.SettleMask),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native32(bits)})
}

// clearRequest clears the bits of the priority that are the hook's.
func clearRequest() rule {
	return append(maskedPriority(^uint32(hook.SettleMask)),
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1})
}

func maskedPriority(mask uint32) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: native32(mask), Xor: native32(0),
		},
	}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// protocolSet is the set of protocols whose flows can be settled: those whose
// header begins with two ports.
func protocolSet(id uint32) set {
	s := set{id: id, name: "__set%d", keyType: typeProtocol, keyLength: 1}
	for _, p := range []byte{
		inspect.ProtoTCP, inspect.ProtoUDP, inspect.ProtoUDPLite, inspect.ProtoSCTP,
	} {
		s.elements = append(s.elements, element{key: []byte{p}})
	}
	return s
}

func unlessPorts(id uint32, v expr.VerdictKind) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: "__set%d", SetID: id, Invert: true},
		&expr.Verdict{Kind: v},
	}
}

// match matches packets of the flows in the set.
func (f *flows) match() rule {
	return append(f.key(false), &expr.Lookup{SourceRegister: firstRegister, SetName: f.name})
}

// change returns the rules that enter both directions of a packet's flow into
// the set, or take them out.
func (f *flows) change(op uint32) []rule {
	var rules []rule
	for _, reverse := range []bool{false, true} {
		rules = append(rules, append(f.key(reverse),
			&expr.Dynset{SrcRegKey: firstRegister, SetName: f.name, Operation: op}))
	}
	return rules
}

// firstRegister is the first of the registers of 4 bytes.
const firstRegister = unix.NFT_REG32_00

// key loads the set's key from a packet of its family, as it is or with source
// and destination changed. A packet without ports, a fragment, ends the rule.
func (f *flows) key(reverse bool) rule {
	first, length := uint32(12), uint32(4)
	if f.family == unix.NFPROTO_IPV6 {
		first, length = 8, 16
	}
	source, sourcePort := uint32(0), uint32(0)
	if reverse {
		source, sourcePort = length, 2
	}
	address := func(register, offset uint32) expr.Any {
		return &expr.Payload{
			DestRegister: register, Base: expr.PayloadBaseNetworkHeader,
			Offset: first + offset, Len: length,
		}
	}
	port := func(register, offset uint32) expr.Any {
		return &expr.Payload{
			DestRegister: register, Base: expr.PayloadBaseTransportHeader,
			Offset: offset, Len: 2,
		}
	}
	step := length / 4
	return append(equals(expr.MetaKeyNFPROTO, []byte{f.family}),
		address(firstRegister, source),
		address(firstRegister+step, length-source),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister + 2*step},
		port(firstRegister+2*step+1, sourcePort),
		port(firstRegister+2*step+2, 2-sourcePort))
}
