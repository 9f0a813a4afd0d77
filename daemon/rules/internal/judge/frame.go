// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"encoding/binary"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/flowtab"
)

// frame is the packet that is being judged.
type frame struct {
	packet *Packet
	now    time.Duration
	ip     inspect.Packet // as long as its IP header says
	flow   inspect.Flow
	length int // of the transport on the wire
	key    flowtab.Key
	side   flowtab.Side // where the packet comes from
}

// read parses the IP header, and returns false if it is malformed.
func (f *frame) read(packet *Packet, now time.Duration) bool {
	f.packet, f.now = packet, now
	length, ok := lengthOf(packet.Payload, packet.Length)
	if !ok {
		return false
	}
	f.ip.Payload = packet.Payload[:min(length, len(packet.Payload))]
	f.ip.Length = length
	if f.flow, ok = f.ip.Flow(); !ok {
		return false
	}
	f.length = length - (len(f.ip.Payload) - len(f.flow.Transport))
	f.setKey(f.flow.SourcePort, f.flow.DestinationPort)
	return true
}

func (f *frame) setKey(source, destination uint16) {
	f.key, f.side = flowtab.KeyOf(f.flow.Source, f.flow.Destination, source, destination,
		f.flow.Protocol)
}

// lengthOf returns the length of a packet by its IP header: bytes may follow it. A header
// without one is of a packet that is longer than its field allows.
func lengthOf(b []byte, whole int) (int, bool) {
	if len(b) < 20 || whole < len(b) {
		return 0, false
	}
	length := 0
	switch b[0] >> 4 {
	case 4:
		length = int(binary.BigEndian.Uint16(b[2:]))
	case 6:
		if length = int(binary.BigEndian.Uint16(b[4:])); length > 0 {
			length += 40
		}
	default:
		return 0, false
	}
	if length == 0 || length > whole {
		length = whole
	}
	return length, length >= 20
}

// isFragment reports whether the transport header or what follows it is not all there.
// The kernel puts fragments together before anybody sees them.
func (f *frame) isFragment() bool {
	b := f.ip.Payload
	if b[0]>>4 == 6 {
		return f.flow.Fragment || moreFollow(b)
	}
	return f.flow.Fragment || b[6]&0x20 != 0
}

// moreFollow reports whether a packet of IPv6, whose headers are whole, is a fragment that
// others follow.
func moreFollow(b []byte) bool {
	next, b := b[6], b[40:]
	for len(b) >= 8 {
		length := int(b[1])*8 + 8
		switch next {
		case inspect.ProtoFragment:
			return b[3]&1 != 0
		case inspect.ProtoAH:
			length = int(b[1])*4 + 8
		case inspect.ProtoHopByHop, inspect.ProtoRouting, inspect.ProtoDstOpts:
		default:
			return false
		}
		next, b = b[0], b[min(length, len(b)):]
	}
	return false
}

// truncated returns how many bytes of the packet were not copied.
func (f *frame) truncated() int { return max(f.length-len(f.flow.Transport), 0) }

// isOut reports whether the pod sent the packet.
func (f *frame) isOut() bool { return f.packet.Direction == inspect.Out }
