// SPDX-License-Identifier: Apache-2.0

package pcap

import (
	"encoding/binary"
	"time"
)

// The numbers at the start of a file of the format pcap, for its unit of time.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

// classicFile is a file of the format pcap.
type classicFile struct {
	source *source
	order  binary.ByteOrder
	unit   time.Duration
	in     Interface
}

// openClassic reads the header behind its first number, which is given as a
// little-endian machine has it.
func openClassic(s *source, magic uint32) (*classicFile, error) {
	p := &classicFile{source: s, order: binary.LittleEndian}
	var swapped [4]byte
	binary.BigEndian.PutUint32(swapped[:], magic)
	other := binary.LittleEndian.Uint32(swapped[:])
	if other == magicMicro || other == magicNano {
		magic, p.order = other, binary.BigEndian
	}
	switch magic {
	case magicMicro:
		p.unit = time.Microsecond
	case magicNano:
		p.unit = time.Nanosecond
	default:
		return nil, &Error{0, ErrFormat}
	}
	header, err := s.rest(20)
	if err != nil {
		return nil, err
	}
	if major := p.order.Uint16(header); major != 2 {
		return nil, s.errorf("version %d of pcap, want 2", major)
	}
	// The upper bits tell of a checksum behind each frame, which is cut off with padding.
	p.in.linkType = uint16(p.order.Uint32(header[16:]))
	return p, nil
}

func (p *classicFile) frame(f *frame) error {
	header, err := p.source.read(16)
	if err != nil {
		return err
	}
	seconds, fraction := p.order.Uint32(header), p.order.Uint32(header[4:])
	captured := p.order.Uint32(header[8:])
	f.length = p.order.Uint32(header[12:])
	f.time = time.Unix(int64(seconds), int64(fraction)*int64(p.unit)).UTC()
	f.in = &p.in
	f.data, err = frameData(p.source, captured, f.length)
	return err
}

// frameData reads the captured bytes of a frame.
func frameData(s *source, captured, length uint32) ([]byte, error) {
	if err := checkLengths(s, captured, length); err != nil {
		return nil, err
	}
	return s.rest(int(captured))
}

func checkLengths(s *source, captured, length uint32) error {
	switch {
	case captured > maxFrame:
		return s.errorf("a packet of %d captured bytes, more than %d", captured, maxFrame)
	case captured > length:
		return s.errorf("%d bytes were captured of a packet of %d", captured, length)
	case length > maxBlock:
		return s.errorf("a packet of %d bytes, more than %d", length, maxBlock)
	}
	return nil
}
