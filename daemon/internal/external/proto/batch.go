// SPDX-License-Identifier: Apache-2.0

package proto

import (
	"encoding/binary"
	"slices"
)

// Flags of a packet in a batch.
const (
	FlagUnverified = 1 << 0 // nobody has verified the checksum of the transport
	FlagNotReady   = 1 << 1 // that checksum is not made yet
	FlagMerged     = 1 << 2 // several packets of the flow
	FlagTruncated  = 1 << 3 // only the beginning was captured
)

// Header is what a batch says of a packet.
type Header struct {
	ID uint32
	// Length is that of the whole packet, Captured how much of it comes, and Offset where:
	// from the start of the message, or of the memory.
	Length, Captured, Offset uint32
	Mark                     uint32
	// Direction is 1 in, 2 out, 3 forward, and Protocol that of IP, 0 if it is not known.
	Direction, Protocol uint8
	Flags               uint16
	// Flow is the same number for all packets of a flow, both ways, and 0 if it is not
	// known. Different flows may have the same.
	Flow uint64
	// Time is when the packet was read, in nanoseconds of CLOCK_MONOTONIC.
	Time uint64
	// InDev and OutDev are interface indexes in the pod.
	InDev, OutDev uint32
}

// put writes the header.
func (h *Header) put(b []byte) {
	_ = b[headerSize-1]
	binary.LittleEndian.PutUint32(b, h.ID)
	binary.LittleEndian.PutUint32(b[4:], h.Length)
	binary.LittleEndian.PutUint32(b[8:], h.Captured)
	binary.LittleEndian.PutUint32(b[12:], h.Offset)
	binary.LittleEndian.PutUint32(b[16:], h.Mark)
	b[20], b[21] = h.Direction, h.Protocol
	binary.LittleEndian.PutUint16(b[22:], h.Flags)
	binary.LittleEndian.PutUint64(b[24:], h.Flow)
	binary.LittleEndian.PutUint64(b[32:], h.Time)
	binary.LittleEndian.PutUint32(b[40:], h.InDev)
	binary.LittleEndian.PutUint32(b[44:], h.OutDev)
	clear(b[48:headerSize])
}

// Parse reads the header.
func (h *Header) parse(b []byte) {
	h.ID = binary.LittleEndian.Uint32(b)
	h.Length, h.Captured = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	h.Offset, h.Mark = binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:])
	h.Direction, h.Protocol = b[20], b[21]
	h.Flags = binary.LittleEndian.Uint16(b[22:])
	h.Flow, h.Time = binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:])
	h.InDev, h.OutDev = binary.LittleEndian.Uint32(b[40:]), binary.LittleEndian.Uint32(b[44:])
}

// Builder makes a BATCH. Its memory is used again for the next one.
type Builder struct {
	headers [MaxBatch]Header
	count   int
	// Most is how many packets the batch may have.
	Most int
	// Memory is the part of the shared memory that the packets are put into, Offset where
	// it begins. Nil: they are in the message.
	Memory []byte
	Offset uint32
	// data has the packets, without Memory.
	data []byte
	used int // of Memory
	head []byte
}

// Reset empties the builder, for a batch of so many packets at most.
func (b *Builder) Reset(most int, memory []byte, offset uint32) {
	b.count, b.used, b.data = 0, 0, b.data[:0]
	b.Most, b.Memory, b.Offset = most, memory, offset
}

// Count is how many packets there are.
func (b *Builder) Count() int { return b.count }

// Add adds a packet, with this much of it, and returns false if there is no room for it.
func (b *Builder) Add(h *Header, captured []byte) bool {
	if b.count == b.Most {
		return false
	}
	if b.Memory != nil {
		if b.used+len(captured) > len(b.Memory) {
			return false
		}
		h.Offset = b.Offset + uint32(b.used)
		copy(b.Memory[b.used:], captured)
		b.used += align(len(captured))
	} else {
		if batchSize+(b.count+1)*headerSize+len(b.data)+len(captured) > MaxMessage-dataSlack {
			return false
		}
		h.Offset = uint32(len(b.data)) // from the start of the data, so far
		b.data = append(b.data, captured...)
		b.data = extend(b.data, align(len(captured))-len(captured))
	}
	h.Captured = uint32(len(captured))
	b.headers[b.count] = *h
	b.count++
	return true
}

// Packets begin at multiples of 8.
const packetAlign = 8

// dataSlack is what the alignment of a message's last packet may add.
const dataSlack = packetAlign

// extend appends zeroes.
func extend(b []byte, n int) []byte {
	b = slices.Grow(b, n)[:len(b)+n]
	clear(b[len(b)-n:])
	return b
}

func align(n int) int { return (n + packetAlign - 1) &^ (packetAlign - 1) }

// flagMemory of a BATCH says that its packets are in the shared memory.
const flagMemory = 1 << 0

// Message returns the two parts of the BATCH. They are valid until Reset.
func (b *Builder) Message(sequence, attachment uint32) (head, data []byte) {
	m := begin(b.head[:0], TypeBatch)
	m = binary.LittleEndian.AppendUint32(m, sequence)
	m = binary.LittleEndian.AppendUint16(m, uint16(b.count))
	flags := uint16(0)
	if b.Memory != nil {
		flags = flagMemory
	}
	m = binary.LittleEndian.AppendUint16(m, flags)
	m = binary.LittleEndian.AppendUint32(m, attachment)
	m = binary.LittleEndian.AppendUint32(m, 0)
	behind := uint32(batchSize + b.count*headerSize)
	for i := range b.count {
		h := b.headers[i]
		if b.Memory == nil {
			h.Offset += behind
		}
		at := len(m)
		m = extend(m, headerSize)
		h.put(m[at:])
	}
	binary.LittleEndian.PutUint32(m[4:], uint32(len(m)+len(b.data)))
	b.head = m
	return m, b.data
}

// Batch is a BATCH that was read.
type Batch struct {
	Sequence, Attachment uint32
	Headers              []Header
	// InMemory says that the packets are in the shared memory.
	InMemory bool
}

// ParseBatch reads a BATCH, whose packets are in the message or in memory. All of them are
// within.
func ParseBatch(b, memory []byte) (Batch, error) {
	if t, err := TypeOf(b); err != nil || t != TypeBatch || len(b) < batchSize {
		return Batch{}, malformed("want BATCH")
	}
	count := int(binary.LittleEndian.Uint16(b[12:]))
	if count == 0 || count > MaxBatch || batchSize+count*headerSize > len(b) {
		return Batch{}, malformed("BATCH of %d packets", count)
	}
	r := Batch{
		Sequence: binary.LittleEndian.Uint32(b[8:]), Attachment: binary.LittleEndian.Uint32(b[16:]),
		InMemory: binary.LittleEndian.Uint16(b[14:])&flagMemory != 0,
		Headers:  make([]Header, count),
	}
	within := b
	if r.InMemory {
		within = memory
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		h.parse(b[batchSize+i*headerSize:])
		if uint64(h.Offset)+uint64(h.Captured) > uint64(len(within)) {
			return Batch{}, malformed("packet %d of BATCH is outside", i)
		}
	}
	return r, nil
}
