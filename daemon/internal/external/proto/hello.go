// SPDX-License-Identifier: Apache-2.0

package proto

import "encoding/binary"

// Hello is the first message of an inspector.
type Hello struct {
	// Version is the highest that the inspector speaks.
	Version uint16
	// InFlight is how many batches of a queue it takes at a time; 0: MaxInFlight.
	InFlight uint16
	// Features are those that it has.
	Features uint32
	// CopyRange is how many bytes of a packet it wants; 0: all.
	CopyRange uint32
	// Batch is how many packets it takes in a batch; 0: MaxBatch.
	Batch uint16
	// Name is what it calls itself.
	Name string
}

// ParseHello reads a HELLO. Fields that a later version adds follow the name.
func ParseHello(b []byte) (Hello, error) {
	if t, err := TypeOf(b); err != nil || t != TypeHello || len(b) < helloSize {
		return Hello{}, malformed("the first message is a HELLO")
	}
	if magic := binary.LittleEndian.Uint32(b[8:]); magic != Magic {
		return Hello{}, malformed("HELLO has the magic %#x", magic)
	}
	h := Hello{
		Version: binary.LittleEndian.Uint16(b[12:]), InFlight: binary.LittleEndian.Uint16(b[14:]),
		Features: binary.LittleEndian.Uint32(b[16:]), CopyRange: binary.LittleEndian.Uint32(b[20:]),
		Batch: binary.LittleEndian.Uint16(b[24:]),
	}
	n := int(binary.LittleEndian.Uint16(b[26:]))
	switch {
	case n > MaxName || helloSize+n > len(b):
		return Hello{}, malformed("the name of HELLO has %d bytes", n)
	case h.Version == 0:
		return Hello{}, malformed("HELLO has version 0")
	case h.InFlight > MaxInFlight:
		return Hello{}, malformed("HELLO wants %d batches in flight", h.InFlight)
	case h.Batch > MaxBatch:
		return Hello{}, malformed("HELLO wants batches of %d packets", h.Batch)
	}
	h.Name = string(b[helloSize : helloSize+n])
	return h, nil
}

// Append appends the message.
func (h *Hello) Append(b []byte) []byte {
	b = begin(b[:0], TypeHello)
	b = binary.LittleEndian.AppendUint32(b, Magic)
	b = binary.LittleEndian.AppendUint16(b, h.Version)
	b = binary.LittleEndian.AppendUint16(b, h.InFlight)
	b = binary.LittleEndian.AppendUint32(b, h.Features)
	b = binary.LittleEndian.AppendUint32(b, h.CopyRange)
	b = binary.LittleEndian.AppendUint16(b, h.Batch)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Name)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return finish(append(b, h.Name...))
}

// Welcome is the daemon's answer.
type Welcome struct {
	Version, InFlight uint16
	Features          uint32
	CopyRange         uint32
	Batch             uint16
	// Queue is the number that the inspector binds in each netns (FeatureQueues).
	Queue uint16
	// Budget is how many microseconds the inspector may take for a packet.
	Budget uint32
	// MarkMask are the bits of the packet mark that it may set.
	MarkMask uint32
	// Attachments are how many messages ATTACH follow at once.
	Attachments uint32
	// Memory is how many bytes of memory are shared.
	Memory uint64
	// Boot identifies the daemon's run.
	Boot [16]byte
}

// Append appends the message.
func (w *Welcome) Append(b []byte) []byte {
	b = begin(b[:0], TypeWelcome)
	b = binary.LittleEndian.AppendUint32(b, Magic)
	b = binary.LittleEndian.AppendUint16(b, w.Version)
	b = binary.LittleEndian.AppendUint16(b, w.InFlight)
	b = binary.LittleEndian.AppendUint32(b, w.Features)
	b = binary.LittleEndian.AppendUint32(b, w.CopyRange)
	b = binary.LittleEndian.AppendUint16(b, w.Batch)
	b = binary.LittleEndian.AppendUint16(b, w.Queue)
	b = binary.LittleEndian.AppendUint32(b, w.Budget)
	b = binary.LittleEndian.AppendUint32(b, w.MarkMask)
	b = binary.LittleEndian.AppendUint32(b, w.Attachments)
	b = binary.LittleEndian.AppendUint64(b, w.Memory)
	return finish(append(b, w.Boot[:]...))
}

// ParseWelcome reads a WELCOME.
func ParseWelcome(b []byte) (Welcome, error) {
	if t, err := TypeOf(b); err != nil || t != TypeWelcome || len(b) < welcomeSize {
		return Welcome{}, malformed("the answer to HELLO is a WELCOME")
	}
	if magic := binary.LittleEndian.Uint32(b[8:]); magic != Magic {
		return Welcome{}, malformed("WELCOME has the magic %#x", magic)
	}
	w := Welcome{
		Version: binary.LittleEndian.Uint16(b[12:]), InFlight: binary.LittleEndian.Uint16(b[14:]),
		Features: binary.LittleEndian.Uint32(b[16:]), CopyRange: binary.LittleEndian.Uint32(b[20:]),
		Batch: binary.LittleEndian.Uint16(b[24:]), Queue: binary.LittleEndian.Uint16(b[26:]),
		Budget:      binary.LittleEndian.Uint32(b[28:]),
		MarkMask:    binary.LittleEndian.Uint32(b[32:]),
		Attachments: binary.LittleEndian.Uint32(b[36:]),
		Memory:      binary.LittleEndian.Uint64(b[40:]),
	}
	copy(w.Boot[:], b[48:])
	return w, nil
}
