// SPDX-License-Identifier: Apache-2.0

// Package pcap reads captures in the formats pcap and pcapng, and gives back the IP
// packets in them. It knows the link types of Ethernet with VLAN tags, Linux's cooked
// captures, loopback and raw IP, and the names that nsqueuectl gives to pods.
package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Interface is where packets were captured. A file of the format pcap has one, without a
// name.
type Interface struct {
	Name, Description string

	program  string // what has written the section
	linkType uint16
	snapLen  uint32
	clock    clock
}

// Direction of a packet, if the capture tells.
type Direction uint8

// The directions, as the interface sees them.
const (
	NoDirection Direction = iota
	Inbound
	Outbound
)

// Packet is one IP packet of a capture.
type Packet struct {
	// Number is that of the frame in its capture, from 1 on, as Wireshark has it.
	Number int
	// Offset is where in the file the frame's record begins.
	Offset int64
	// Time is the zero time if the file has none.
	Time time.Time
	// IP begins at the IP header and ends with the packet or with what was captured of
	// it. It is valid until the next call of Next.
	IP []byte
	// Length is how many bytes the packet had on its way, from the IP header on.
	Length    int
	Interface *Interface
	Direction Direction
	Comment   string
}

// Error is what is wrong with a file, and where in it.
type Error struct {
	Offset int64
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %v", e.Offset, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ErrFormat is the error for a file of another format.
var ErrFormat = errors.New("neither pcap nor pcapng")

const (
	maxFrame = 1 << 20 // a packet of BIG TCP fits
	maxBlock = 16 << 20
)

// frame is a record of a file, before its link layer is taken off.
type frame struct {
	time      time.Time
	data      []byte
	length    uint32
	in        *Interface
	direction Direction
	comment   string
}

// Reader reads one capture. One goroutine uses it at a time.
type Reader struct {
	source source
	next   func(*frame) error
	number int
	others int
	err    error // what ended the capture
}

// NewReader reads the first bytes of a capture. Give it a buffered reader.
func NewReader(r io.Reader) (*Reader, error) {
	p := &Reader{source: source{r: r}}
	magic, err := p.source.read(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = &Error{0, ErrFormat}
		}
		return nil, err
	}
	p.next, err = opened(&p.source, binary.LittleEndian.Uint32(magic))
	return p, err
}

// opened returns what reads the frames of a file that begins with a number.
func opened(s *source, magic uint32) (func(*frame) error, error) {
	if magic == blockSection {
		ng := &ngFile{source: s}
		if err := ng.firstSection(); err != nil {
			return nil, err
		}
		return ng.frame, nil
	}
	classic, err := openClassic(s, magic)
	if err != nil {
		return nil, err
	}
	return classic.frame, nil
}

// Next returns the next IP packet, and io.EOF at the end. Frames of other protocols are
// numbered and left out. An error of the file, an [Error], is the end of it.
func (p *Reader) Next() (Packet, error) {
	for p.err == nil {
		var f frame
		p.source.start = p.source.offset
		if p.err = p.next(&f); p.err != nil {
			break
		}
		p.number++
		ip, length, err := network(f.in.linkType, f.data, int(f.length))
		if err != nil {
			p.err = &Error{p.source.start, err}
			break
		}
		if len(ip) == 0 {
			p.others++
			continue
		}
		return Packet{
			Number: p.number, Offset: p.source.start, Time: f.time, IP: ip, Length: length,
			Interface: f.in, Direction: f.direction, Comment: f.comment,
		}, nil
	}
	return Packet{}, p.err
}

// Others returns how many frames have been left out, because they were not IP or had no
// byte of its header.
func (p *Reader) Others() int { return p.others }
