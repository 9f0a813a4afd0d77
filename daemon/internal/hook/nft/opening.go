// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const (
	tcpFlagsOffset = 13
	tcpSyn         = 0x02
	tcpAck         = 0x10

	sourcePortOffset      = 0
	destinationPortOffset = 2

	udpLengthOffset  = 4
	udpPayloadOffset = 8

	// Version 1 of QUIC sets both bits in a long header, others may set one.
	quicLong  = 0x80
	quicFixed = 0x40
	quicPort  = 443
)

// lookups decide for no packet that opens a connection, though its flow be
// settled: nothing was decided about the new one. A rule ends where a packet
// lacks what it loads. So each decides only for what it has found, and a packet
// that is cut off is queued.
func lookups() []rule {
	tcp := equals(expr.MetaKeyL4PROTO, []byte{inspect.ProtoTCP})
	udp := equals(expr.MetaKeyL4PROTO, []byte{inspect.ProtoUDP})
	return []rule{
		slices.Concat(tcp, opens(expr.CmpOpNeq), goTo(flowsChain)),
		slices.Concat(tcp, opens(expr.CmpOpEq), goTo(endChain)),
		append(slices.Clone(tcp), &expr.Verdict{Kind: expr.VerdictReturn}),
		slices.Concat(udp, goTo(udpChain)),
		goTo(flowsChain),
	}
}

// udpLookups keep QUIC's long headers from being decided for. Most datagrams
// have none. One without a payload is all there if it says so itself.
func udpLookups() []rule {
	return []rule{
		slices.Concat(payloadBits(quicLong, 0), goTo(flowsChain)),
		slices.Concat(payloadBits(quicLong|quicFixed, quicLong), goTo(quicChain)),
		append(payloadBits(quicLong|quicFixed, quicLong|quicFixed),
			&expr.Verdict{Kind: expr.VerdictReturn}),
		slices.Concat(
			rule{transport(udpLengthOffset, 2), compare(expr.CmpOpEq, be16(udpPayloadOffset))},
			goTo(flowsChain)),
	}
}

// quicLookups keep long headers of other versions than the first from being
// decided for, where QUIC is to be expected.
func quicLookups() []rule {
	return []rule{
		returnPort(sourcePortOffset), returnPort(destinationPortOffset), goTo(flowsChain),
	}
}

func returnPort(offset uint32) rule {
	return rule{
		transport(offset, 2), compare(expr.CmpOpEq, be16(quicPort)),
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// endOpened ends the flow of what opens a connection. The flags come first:
// almost no packet has them, whatever else the byte may be.
func endOpened() rule {
	return slices.Concat(opens(expr.CmpOpEq),
		equals(expr.MetaKeyL4PROTO, []byte{inspect.ProtoTCP}),
		rule{&expr.Verdict{Kind: expr.VerdictJump, Chain: endChain}})
}

// opens compares the flags of a TCP header with those of what opens a
// connection: SYN without ACK.
func opens(op expr.CmpOp) rule {
	return bits(tcpFlagsOffset, tcpSyn|tcpAck, op, tcpSyn)
}

// payloadBits compares bits of the first byte that a datagram carries.
func payloadBits(mask, value byte) rule {
	return bits(udpPayloadOffset, mask, expr.CmpOpEq, value)
}

// bits compares bits of a byte of the transport header or behind it.
func bits(offset uint32, mask byte, op expr.CmpOp, value byte) rule {
	return rule{
		transport(offset, 1),
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0},
		},
		compare(op, []byte{value}),
	}
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func goTo(chain string) rule {
	return rule{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}
