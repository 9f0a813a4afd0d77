// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"encoding/binary"
	"errors"
)

// The types of blocks of pcapng that this package reads. It leaves out all others.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockOldPacket = 2
	blockSimple    = 3
	blockPacket    = 6
)

// The codes of options that this package reads.
const (
	optEnd         = 0
	optComment     = 1
	sectionProgram = 4
	ifName         = 2
	ifDescription  = 3
	ifTimeUnit     = 9
	ifTimeOffset   = 14
	packetFlags    = 2
)

const (
	byteOrderMagic = 0x1a2b3c4d
	blockFrame     = 12 // type, length, and the length once more
	maxInterfaces  = 1 << 16
)

// ngFile is a file of the format pcapng.
type ngFile struct {
	source     *source
	order      binary.ByteOrder
	program    string
	interfaces []*Interface
}

// block is the body of one, between its two lengths.
type block struct {
	kind uint32
	body []byte
}

// firstSection reads the header of a section whose type has been read.
func (p *ngFile) firstSection() error {
	head, err := p.source.rest(8)
	if err != nil {
		return err
	}
	return p.section(binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:]))
}

// section reads the rest of a section's header. Its length and magic come as a
// little-endian machine has them: the magic tells the order of bytes.
func (p *ngFile) section(length, magic uint32) error {
	p.order = binary.LittleEndian
	var b [8]byte
	p.order.PutUint32(b[:], length)
	p.order.PutUint32(b[4:], magic)
	if binary.BigEndian.Uint32(b[4:]) == byteOrderMagic {
		p.order = binary.BigEndian
	} else if magic != byteOrderMagic {
		return p.source.errorf("a section with the byte-order magic %#08x", magic)
	}
	body, err := p.body(p.order.Uint32(b[:]), blockFrame+4)
	if err != nil {
		return err
	}
	if len(body) < 12 {
		return p.source.errorf("the header of a section has %d bytes", len(body))
	}
	if major := p.order.Uint16(body); major != 1 {
		return p.source.errorf("version %d of pcapng, want 1", major)
	}
	p.interfaces, p.program = nil, ""
	return p.options(body[12:], func(code uint16, value []byte) error {
		if code == sectionProgram {
			p.program = string(value)
		}
		return nil
	})
}

// body reads the rest of a block, of which a number of bytes has been read or is its last
// length, and compares the lengths.
func (p *ngFile) body(length uint32, known int) ([]byte, error) {
	if length < uint32(known) || length%4 != 0 || length > maxBlock {
		return nil, p.source.errorf("a block of %d bytes", length)
	}
	b, err := p.source.rest(int(length) - known + 4)
	if err != nil {
		return nil, err
	}
	end := len(b) - 4
	if again := p.order.Uint32(b[end:]); again != length {
		return nil, p.source.errorf("a block of %d bytes says %d at its end", length, again)
	}
	return b[:end], nil
}

// block reads the next block that is no header of a section.
func (p *ngFile) block() (block, error) {
	for {
		p.source.start = p.source.offset
		head, err := p.source.read(8)
		if err != nil {
			return block{}, err
		}
		kind, length := p.order.Uint32(head), p.order.Uint32(head[4:])
		if kind != blockSection {
			body, err := p.body(length, blockFrame)
			return block{kind, body}, err
		}
		first := binary.LittleEndian.Uint32(head[4:])
		magic, err := p.source.rest(4)
		if err == nil {
			err = p.section(first, binary.LittleEndian.Uint32(magic))
		}
		if err != nil {
			return block{}, err
		}
	}
}

// frame reads blocks up to the next packet.
func (p *ngFile) frame(f *frame) error {
	for {
		b, err := p.block()
		if err != nil {
			return err
		}
		switch b.kind {
		case blockInterface:
			err = p.addInterface(b.body)
		case blockPacket:
			return p.packet(b.body, 20, f)
		case blockOldPacket:
			return p.oldPacket(b.body, f)
		case blockSimple:
			return p.simplePacket(b.body, f)
		}
		if err != nil {
			return err
		}
	}
}

var errOption = errors.New("an option does not fit in its block")

// options calls a function for each option.
func (p *ngFile) options(b []byte, each func(code uint16, value []byte) error) error {
	for len(b) >= 4 {
		code, length := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		b = b[4:]
		if code == optEnd {
			return nil
		}
		if length > len(b) {
			return &Error{p.source.start, errOption}
		}
		if err := each(code, b[:length]); err != nil {
			return err
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	if len(b) > 0 {
		return &Error{p.source.start, errOption}
	}
	return nil
}
