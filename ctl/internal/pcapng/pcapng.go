// SPDX-License-Identifier: Apache-2.0

// Package pcapng writes packets in the format that Wireshark reads (PCAP Next
// Generation, draft-ietf-opsawg-pcapng): one section, interfaces as they turn up,
// and packets that begin at their IP header, each with a comment.
package pcapng

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// The types of blocks.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6
)

// The codes of options. Those below ifName are in blocks of each type.
const (
	optEnd           = 0
	optComment       = 1
	sectionProgram   = 4
	ifName           = 2
	ifDescription    = 3
	ifTimeResolution = 9
	packetFlags      = 2
)

const (
	byteOrderMagic = 0x1a2b3c4d
	linkTypeRaw    = 101 // IPv4 or IPv6, as the first four bits say
	nanoseconds    = 9   // digits behind the point
	maxOption      = 65535
)

// Direction of a packet, as its flags word has it.
type Direction uint32

// The directions. Forwarded packets have none.
const (
	NoDirection Direction = iota
	Inbound
	Outbound
)

// Interface is where packets were captured.
type Interface struct {
	Name, Description string
	// SnapLen is how many bytes of each packet are captured at most.
	SnapLen uint32
}

// Packet is one captured packet.
type Packet struct {
	// Interface is the number that AddInterface has returned.
	Interface int
	Time      time.Time
	// Data begins at the IP header, and has the beginning of the packet's Length
	// bytes.
	Data      []byte
	Length    int
	Direction Direction
	Comment   string
}

// Writer writes one section. Each block is one call of the underlying Write, so
// that the reader of a pipe gets whole packets.
type Writer struct {
	w          io.Writer
	block      []byte
	interfaces int
	size       int64
}

// NewWriter begins a section, written by the named program.
func NewWriter(w io.Writer, program string) (*Writer, error) {
	p := &Writer{w: w}
	p.openBlock(blockSection)
	p.uint32(byteOrderMagic)
	p.uint32(1)          // version 1.0: two numbers of 16 bits
	p.uint32(^uint32(0)) // the length of the section, in 64 bits: not known
	p.uint32(^uint32(0))
	if err := p.option(sectionProgram, program); err != nil {
		return nil, err
	}
	return p, p.closeBlock()
}

// Size returns how many bytes have been written.
func (p *Writer) Size() int64 { return p.size }

// AddInterface returns the number of a new interface.
func (p *Writer) AddInterface(i Interface) (int, error) {
	p.openBlock(blockInterface)
	p.uint32(linkTypeRaw) // 16 bits, and 16 that are reserved
	p.uint32(i.SnapLen)
	if err := p.option(ifName, i.Name); err != nil {
		return 0, err
	}
	if err := p.option(ifDescription, i.Description); err != nil {
		return 0, err
	}
	if err := p.option(ifTimeResolution, string([]byte{nanoseconds})); err != nil {
		return 0, err
	}
	if err := p.closeBlock(); err != nil {
		return 0, err
	}
	p.interfaces++
	return p.interfaces - 1, nil
}

// WritePacket writes a packet of one of the interfaces.
func (p *Writer) WritePacket(packet *Packet) error {
	if packet.Interface < 0 || packet.Interface >= p.interfaces {
		return fmt.Errorf("write packet: there is no interface %d", packet.Interface)
	}
	t := uint64(packet.Time.UnixNano())
	p.openBlock(blockPacket)
	p.uint32(uint32(packet.Interface))
	p.uint32(uint32(t >> 32))
	p.uint32(uint32(t))
	p.uint32(uint32(len(packet.Data)))
	p.uint32(uint32(max(packet.Length, len(packet.Data))))
	p.padded(packet.Data)
	if packet.Direction != NoDirection {
		flags := binary.LittleEndian.AppendUint32(nil, uint32(packet.Direction))
		if err := p.option(packetFlags, string(flags)); err != nil {
			return err
		}
	}
	if err := p.option(optComment, packet.Comment); err != nil {
		return err
	}
	return p.closeBlock()
}

// openBlock starts a block: its type, and its length as yet unknown.
func (p *Writer) openBlock(kind uint32) {
	p.block = p.block[:0]
	p.uint32(kind)
	p.uint32(0)
}

func (p *Writer) uint32(v uint32) { p.block = binary.LittleEndian.AppendUint32(p.block, v) }

// padded adds bytes, and zeros to the next multiple of four.
func (p *Writer) padded(b []byte) {
	p.block = append(p.block, b...)
	for len(p.block)%4 != 0 {
		p.block = append(p.block, 0)
	}
}

// option adds an option; an empty one is left out.
func (p *Writer) option(code uint16, value string) error {
	if value == "" {
		return nil
	}
	if len(value) > maxOption {
		return fmt.Errorf("write option %d: %d bytes are more than %d", code, len(value), maxOption)
	}
	p.block = binary.LittleEndian.AppendUint16(p.block, code)
	p.block = binary.LittleEndian.AppendUint16(p.block, uint16(len(value)))
	p.padded([]byte(value))
	return nil
}

// closeBlock ends the options and the block, and writes it.
func (p *Writer) closeBlock() error {
	p.uint32(optEnd)
	length := uint32(len(p.block) + 4)
	p.uint32(length)
	binary.LittleEndian.PutUint32(p.block[4:], length)
	n, err := p.w.Write(p.block)
	p.size += int64(n)
	if err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	return nil
}
