// SPDX-License-Identifier: Apache-2.0

// Package reject tells the ends of a flow that a packet of it was rejected: TCP by
// resets of both, UDP by "port unreachable", other protocols by "administratively
// prohibited".
//
// [Answers] makes the answers and is pure. A [Sender] sends them in one netns.
package reject

import (
	"encoding/binary"
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// Answer is a packet for one end of a flow.
type Answer struct {
	// Packet starts at the IP header.
	Packet []byte
	// Destination is where it goes. It comes from the other end's address.
	Destination netip.Addr
	// Back is for the answer to the end that has sent the rejected packet.
	Back bool
}

// Answers makes the answers to a rejected packet, in memory that it uses again. It is
// for one goroutine.
type Answers struct {
	list []Answer
	buf  []byte
}

// NewAnswers returns what makes answers.
func NewAnswers() *Answers {
	const ends = 2
	return &Answers{list: make([]Answer, 0, ends), buf: make([]byte, 0, icmpv6MaxLen)}
}

// Make returns the answers to a rejected packet, which are valid until the next call.
// There are none where none may be sent: about a reset, an error of ICMP, a message to
// neighbours, a fragment other than the first, an address that is not one host's, and
// about what is malformed or cut off. Withheld are the bytes of TCP in front of the packet
// that its receiver has not got. The nonce is put where no end looks at it.
func (a *Answers) Make(p *inspect.Packet, withheld, nonce uint32) []Answer {
	a.list, a.buf = a.list[:0], a.buf[:0]
	r := rejected{withheld: withheld, nonce: nonce}
	if !r.read(p) {
		return nil
	}
	if r.flow.Protocol == inspect.ProtoTCP {
		a.resets(&r)
	} else {
		a.unreachable(&r)
	}
	return a.list
}

// add takes what has been appended to the buffer as an answer.
func (a *Answers) add(buf []byte, to netip.Addr, back bool) {
	packet := buf[len(a.buf):]
	a.buf = buf
	if inspect.FixChecksums(packet) {
		a.list = append(a.list, Answer{Packet: packet, Destination: to, Back: back})
	}
}

// The flags of TCP.
const (
	fin = 1 << 0
	syn = 1 << 1
	rst = 1 << 2
	ack = 1 << 4
)

const (
	tcpHeaderLen = 20
	tcpFlags     = 13
)

// resets ends the connection at both ends. The numbers are those that they expect: the
// sender has said by its acknowledgement what it waits for, and the receiver waits for
// this packet, or for the first of the bytes in front of it that were withheld. It is
// not told where it knows nothing of a connection.
func (a *Answers) resets(r *rejected) {
	b := r.flow.Transport
	if len(b) < tcpHeaderLen || b[tcpFlags]&rst != 0 {
		return
	}
	header := int(b[12]>>4) * 4
	if header < tcpHeaderLen || header > r.length {
		return
	}
	flags := b[tcpFlags]
	seq, acked := binary.BigEndian.Uint32(b[4:]), uint32(0)
	if flags&ack != 0 {
		acked = binary.BigEndian.Uint32(b[8:])
	}
	end := seq + uint32(r.length-header)
	for _, one := range []byte{syn, fin} {
		if flags&one != 0 {
			end++
		}
	}
	a.reset(r, true, acked, end, rst|ack)
	if flags&(syn|ack) != syn {
		a.reset(r, false, seq-r.withheld, acked, rst|flags&ack)
	}
}

func (a *Answers) reset(r *rejected, back bool, seq, acked uint32, flags byte) {
	b, to := r.appendIP(a.buf, back, inspect.ProtoTCP, tcpHeaderLen)
	from, port := r.flow.SourcePort, r.flow.DestinationPort
	if back {
		from, port = port, from
	}
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, acked)
	b = append(b, tcpHeaderLen/4<<4, flags, 0, 0, 0, 0, 0, 0) // no window, no urgent data
	a.add(b, to, back)
}

// How long errors of ICMP are at most (RFC 1812, 4443), and their headers.
const (
	icmpMaxLen    = 576
	icmpv6MaxLen  = 1280
	icmpHeaderLen = 8
)

// The errors of ICMP (RFC 792, 1812) and ICMPv6 (RFC 4443).
const (
	icmpUnreachable   = 3
	icmpPort          = 3
	icmpProhibited    = 13
	icmpv6Unreachable = 1
	icmpv6Port        = 4
	icmpv6Prohibited  = 1
)

// unreachable tells the sender, with as much of its packet as fits.
func (a *Answers) unreachable(r *rejected) {
	if r.isNoQuery() || len(r.quoted) < min(r.whole, r.headerLen()+icmpHeaderLen) {
		return
	}
	isUDP := r.flow.Protocol == inspect.ProtoUDP
	protocol, kind, code, most := byte(inspect.ProtoICMP), byte(icmpUnreachable),
		byte(icmpProhibited), icmpMaxLen-ipv4HeaderLen
	if isUDP {
		code = icmpPort
	}
	if r.isIPv6() {
		protocol, kind, code = inspect.ProtoICMPv6, icmpv6Unreachable, icmpv6Prohibited
		most = icmpv6MaxLen - ipv6HeaderLen
		if isUDP {
			code = icmpv6Port
		}
	}
	quoted := r.quoted[:min(len(r.quoted), most-icmpHeaderLen)]
	b, to := r.appendIP(a.buf, true, protocol, icmpHeaderLen+len(quoted))
	b = append(b, kind, code, 0, 0, 0, 0, 0, 0)
	a.add(append(b, quoted...), to, true)
}
