// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"

	gonfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// Sizes and numbers of linux/netlink.h, linux/netfilter/nfnetlink.h and
// linux/netfilter/nfnetlink_queue.h that golang.org/x/sys/unix does not have.
const (
	nlHeaderLen  = unix.SizeofNlMsghdr
	genHeaderLen = nlsock.NetfilterHeaderLen
	attrLen      = unix.SizeofNlAttr

	subsysQueue     = unix.NFNL_SUBSYS_QUEUE << 8
	msgPacket       = subsysQueue
	msgVerdict      = subsysQueue | 1
	msgConfig       = subsysQueue | 2
	msgVerdictBatch = subsysQueue | 3

	attrPacketHdr  = 1
	attrVerdictHdr = 2
	attrMark       = 3
	attrInDev      = 5
	attrOutDev     = 6
	attrPayload    = 10
	attrCapLen     = 13
	attrSkbInfo    = 14
	attrUID        = 16
	attrPriority   = 21     // since Linux 5.18
	attrTypeMask   = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER

	// Flags of attrSkbInfo.
	skbChecksumNotReady    = 1 << 0
	skbGSO                 = 1 << 1
	skbChecksumNotVerified = 1 << 2

	cfgCmd    = 1
	cfgParams = 2
	cfgMaxLen = 3
	cfgMask   = 4
	cfgFlags  = 5

	cmdBind   = 1
	cmdUnbind = 2

	copyPacket = 2 // NFQNL_COPY_PACKET

	noUser = 1<<32 - 1 // INVALID_UID

	// verdictRequeue is NF_QUEUE; the number goes into the upper 16 bits.
	verdictDrop    = 0
	verdictAccept  = 1
	verdictRequeue = 3

	// verdictLen is a verdict message without a payload.
	verdictLen = nlHeaderLen + genHeaderLen + attrLen + 8 + 2*(attrLen+4)
)

// padding is what brings a message to netlink's alignment.
const padding = "\x00\x00\x00"

// Netfilter's hook points (enum nf_inet_hooks), as they come in a packet.
const (
	hookLocalIn  = 1
	hookForward  = 2
	hookLocalOut = 3
)

// errMalformed is what parse returns for anything that the kernel would not
// have sent.
var errMalformed = errors.New("malformed packet message")

// align rounds n up to netlink's alignment.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// parse reads a packet message (without its netlink header) into p. The ID is
// read first: where hasID is true and err is not nil, the packet waits in the
// kernel and still needs a verdict. p.Payload points into b.
//
// The kernel sends the payload unpadded and last, so the message's length need
// not be aligned.
func parse(b []byte, p *inspect.Packet) (hasID bool, err error) {
	if len(b) < genHeaderLen {
		return false, errMalformed
	}
	b = b[genHeaderLen:]
	p.UID = -1
	seen := false
	for len(b) >= attrLen {
		length := int(binary.NativeEndian.Uint16(b))
		kind := binary.NativeEndian.Uint16(b[2:]) & attrTypeMask
		if length < attrLen || length > len(b) {
			return hasID, errMalformed
		}
		value := b[attrLen:length]
		b = b[min(align(length), len(b)):]
		switch kind {
		case attrPacketHdr:
			if len(value) < 7 {
				return hasID, errMalformed
			}
			p.ID, hasID = binary.BigEndian.Uint32(value), true
			p.Direction = direction(value[6])
		case attrPayload:
			p.Payload, seen = value, true
			p.Length = max(p.Length, len(value))
		case attrMark, attrInDev, attrOutDev, attrCapLen, attrSkbInfo, attrUID, attrPriority:
			if len(value) < 4 {
				return hasID, errMalformed
			}
			setNumber(p, kind, binary.BigEndian.Uint32(value))
		}
	}
	if !hasID || !seen || len(b) != 0 {
		return hasID, errMalformed
	}
	return true, nil
}

func setNumber(p *inspect.Packet, kind uint16, v uint32) {
	switch kind {
	case attrMark:
		p.Mark = v
	case attrInDev:
		p.InDev = v
	case attrOutDev:
		p.OutDev = v
	case attrPriority:
		p.Priority = v
	case attrCapLen:
		p.Length = int(v)
	case attrSkbInfo:
		p.Merged = v&skbGSO != 0
		p.Checksum = checksum(v)
	case attrUID:
		p.UID = user(p.Direction, v)
	}
}

// user returns whose socket a packet comes from, −1 if it comes from none. Of some
// incoming packets the kernel knows the socket already, and of others not yet.
func user(d inspect.Direction, uid uint32) int64 {
	if d != inspect.Out || uid == noUser {
		return -1
	}
	return int64(uid)
}

func checksum(skbInfo uint32) inspect.Checksum {
	switch {
	case skbInfo&skbChecksumNotReady != 0:
		return inspect.ChecksumNotReady
	case skbInfo&skbChecksumNotVerified != 0:
		return inspect.ChecksumUnverified
	}
	return inspect.ChecksumTrusted
}

func direction(hook byte) inspect.Direction {
	switch hook {
	case hookLocalIn:
		return inspect.In
	case hookForward:
		return inspect.Forward
	case hookLocalOut:
		return inspect.Out
	}
	return inspect.Unknown
}

// appendHeader appends a netlink header, whose length endMessage fills in, and
// the netfilter header.
func appendHeader(b []byte, kind, flags uint16, seq uint32, queue uint16) []byte {
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel knows our port
	return nlsock.AppendNetfilterHeader(b, unix.AF_UNSPEC, queue)
}

// endMessage writes the length of the message that starts at start.
func endMessage(b []byte, start int) []byte {
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func appendAttrHeader(b []byte, kind uint16, length int) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrLen+length))
	return binary.NativeEndian.AppendUint16(b, kind)
}

func appendAttr32(b []byte, kind uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(appendAttrHeader(b, kind, 4), v)
}

// appendVerdict appends a verdict message for one packet.
func appendVerdict(b []byte, queue uint16, id uint32, v *rawVerdict) []byte {
	start := len(b)
	b = appendHeader(b, msgVerdict, unix.NLM_F_REQUEST, 0, queue)
	b = appendAttrHeader(b, attrVerdictHdr, 8)
	b = binary.BigEndian.AppendUint32(b, v.verdict)
	b = binary.BigEndian.AppendUint32(b, id)
	if v.setMark {
		b = appendAttr32(b, attrMark, v.mark)
	}
	if v.setPriority {
		b = appendAttr32(b, attrPriority, v.priority)
	}
	if v.payload != nil {
		b = append(appendAttrHeader(b, attrPayload, len(v.payload)), v.payload...)
	}
	b = endMessage(b, start)
	return append(b, padding[:align(len(b))-len(b)]...)
}

// verdictAt is where a message of appendVerdict has the verdict.
const verdictAt = nlHeaderLen + genHeaderLen + attrLen

// verdictPriorityAt is where such a message has the priority that it sets.
func verdictPriorityAt(m []byte) int {
	const first = verdictAt + 8
	if binary.NativeEndian.Uint16(m[first+2:]) == attrMark {
		return first + attrLen + 4 + attrLen
	}
	return first + attrLen
}

// appendBatchVerdict appends one verdict for all waiting packets up to id.
func appendBatchVerdict(b []byte, queue uint16, id, verdict uint32) []byte {
	start := len(b)
	return endMessage(appendBatchHeader(b, queue, id, verdict), start)
}

// appendBatchAccept accepts all waiting packets up to id, without a priority.
func appendBatchAccept(b []byte, queue uint16, id uint32) []byte {
	start := len(b)
	b = appendBatchHeader(b, queue, id, verdictAccept)
	return endMessage(appendAttr32(b, attrPriority, 0), start)
}

// allVerdict is the message that gives all waiting packets up to newest one verdict.
func allVerdict(queue uint16, newest uint32, accept bool) []byte {
	if accept {
		return appendBatchAccept(nil, queue, newest)
	}
	return appendBatchVerdict(nil, queue, newest, verdictDrop)
}

func appendBatchHeader(b []byte, queue uint16, id, verdict uint32) []byte {
	b = appendHeader(b, msgVerdictBatch, unix.NLM_F_REQUEST, 0, queue)
	b = appendAttrHeader(b, attrVerdictHdr, 8)
	b = binary.BigEndian.AppendUint32(b, verdict)
	return binary.BigEndian.AppendUint32(b, id)
}

// appendBind appends the message that binds the queue and configures it. One
// message for both leaves no moment in which the queue exists without a copy
// mode: in it the kernel drops packets, whatever the bypass and fail-open
// switches say (nfqnl_enqueue_packet, NFQNL_COPY_NONE).
func appendBind(b []byte, seq uint32, c *Config) []byte {
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, seq, c.Number)
	b = append(appendAttrHeader(b, cfgCmd, 4), cmdBind, 0, 0, unix.AF_UNSPEC)
	b = appendParameters(b, c)
	return endMessage(b, start)
}

// appendFlags appends the message that changes a bound queue's flags.
func appendFlags(b []byte, c *Config) []byte {
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST, 0, c.Number)
	b = appendAttr32(b, cfgMask, c.knownFlags())
	b = appendAttr32(b, cfgFlags, c.flags())
	return endMessage(b, start)
}

// appendRoom appends the message that gives a bound queue room for packets, and says what
// becomes of those that find none.
func appendRoom(b []byte, number uint16, length uint32, failOpen bool) []byte {
	var flags uint32
	if failOpen {
		flags = gonfqueue.NfQaCfgFlagFailOpen
	}
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST, 0, number)
	b = appendAttr32(b, cfgMaxLen, length)
	b = appendAttr32(b, cfgMask, gonfqueue.NfQaCfgFlagFailOpen)
	b = appendAttr32(b, cfgFlags, flags)
	return endMessage(b, start)
}

// appendCopyRange appends the message that changes how much of a packet is copied.
func appendCopyRange(b []byte, c *Config) []byte {
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST, 0, c.Number)
	return endMessage(appendCopyMode(b, c), start)
}

// appendConfigure appends the message that gives a bound queue its parameters.
func appendConfigure(b []byte, c *Config) []byte {
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST, 0, c.Number)
	b = appendParameters(b, c)
	return endMessage(b, start)
}

// appendUnbind appends the message that destroys a queue.
func appendUnbind(b []byte, number uint16) []byte {
	start := len(b)
	b = appendHeader(b, msgConfig, unix.NLM_F_REQUEST, 0, number)
	b = append(appendAttrHeader(b, cfgCmd, 4), cmdUnbind, 0, 0, unix.AF_UNSPEC)
	return endMessage(b, start)
}

// appendParameters appends everything that a configuration says of a queue.
func appendParameters(b []byte, c *Config) []byte {
	b = appendCopyMode(b, c)
	b = appendAttr32(b, cfgMaxLen, c.Length)
	b = appendAttr32(b, cfgMask, c.knownFlags())
	return appendAttr32(b, cfgFlags, c.flags())
}

func appendCopyMode(b []byte, c *Config) []byte {
	b = appendAttrHeader(b, cfgParams, 5)
	b = binary.BigEndian.AppendUint32(b, c.CopyRange)
	return append(b, copyPacket, 0, 0, 0) // three bytes of padding
}

// packetID returns the ID in a packet message. The kernel puts it first.
func packetID(msg []byte) (uint32, bool) {
	const at = nlHeaderLen + genHeaderLen
	if len(msg) < at+attrLen+4 || binary.NativeEndian.Uint16(msg[4:]) != msgPacket ||
		binary.NativeEndian.Uint16(msg[at+2:])&attrTypeMask != attrPacketHdr {
		return 0, false
	}
	return binary.BigEndian.Uint32(msg[at+attrLen:]), true
}
