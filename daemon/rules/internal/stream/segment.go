// SPDX-License-Identifier: Apache-2.0

package stream

import "encoding/binary"

// Flags of a TCP header.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is what a stream has to know of a packet.
type Segment struct {
	Seq, Ack uint32
	Flags    uint8
	// Payload is what was copied of it.
	Payload []byte
	// Missing is how many bytes follow on the wire that were not copied.
	Missing int
}

// Parse reads the transport part of a packet, which has length bytes on the wire: what
// is behind them is not the segment's. It returns false if the header is malformed or
// not wholly there.
func Parse(transport []byte, length int) (Segment, bool) {
	const header = 20
	transport = transport[:min(len(transport), max(length, 0))]
	if len(transport) < header {
		return Segment{}, false
	}
	offset := int(transport[12]>>4) * 4
	if offset < header || offset > len(transport) {
		return Segment{}, false
	}
	return Segment{
		Seq:     binary.BigEndian.Uint32(transport[4:]),
		Ack:     binary.BigEndian.Uint32(transport[8:]),
		Flags:   transport[13],
		Payload: transport[offset:],
		Missing: length - len(transport),
	}, true
}

// Opens reports whether the segment begins a connection: SYN without ACK.
func (g *Segment) Opens() bool { return g.Flags&(SYN|ACK|RST) == SYN }

// End returns the sequence number behind the segment.
func (g *Segment) End() uint32 {
	end := g.Seq + uint32(len(g.Payload)+g.Missing)
	for _, one := range [...]uint8{SYN, FIN} {
		if g.Flags&one != 0 {
			end++
		}
	}
	return end
}

// Status is what a segment means for its stream.
type Status uint8

// The first status is for segments that may pass, the next two for those that must not,
// whatever the rules say: the sender repeats them, or the receiver would not take them.
// After the last ones the stream can tell no more, and rules have to decide with what
// there is.
const (
	Accepted    Status = iota
	Conflict           // other bytes than before, or other bytes behind the end
	Outside            // bytes where the stream cannot have any, or not yet
	Limit              // the stream is full, or has too many holes
	Malformed          // urgent mode, or flags that exclude each other
	Truncated          // the packet was not wholly copied
	NoMemory           // the account has none for a buffer
	Midstream          // the connection is older than the stream
	Unconfirmed        // the other side has not answered the SYN
)

// Refused reports whether the segment must be dropped.
func (s Status) Refused() bool { return s == Conflict || s == Outside }

// Over reports whether there is nothing more to learn from the stream.
func (s Status) Over() bool { return s >= Limit }

// Result is what [Stream.Push] has done with a segment.
type Result struct {
	Status Status
	// Grew is set if Bytes has more bytes than before.
	Grew bool
	// Ended is set if the segment ends the stream: a FIN up to which all bytes are
	// there, or a RST that the receiver believes if it got all that the stream got.
	Ended bool
}
