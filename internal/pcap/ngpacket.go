// SPDX-License-Identifier: Apache-2.0

package pcap

import "time"

func (p *ngFile) addInterface(body []byte) error {
	if len(body) < 8 {
		return p.source.errorf("the description of an interface has %d bytes", len(body))
	}
	if len(p.interfaces) == maxInterfaces {
		return p.source.errorf("more than %d interfaces", maxInterfaces)
	}
	in := &Interface{
		program:  p.program,
		linkType: p.order.Uint16(body),
		snapLen:  p.order.Uint32(body[4:]),
		clock:    clock{unit: microseconds},
	}
	p.interfaces = append(p.interfaces, in)
	return p.options(body[8:], func(code uint16, value []byte) error {
		return p.interfaceOption(in, code, value)
	})
}

func (p *ngFile) interfaceOption(in *Interface, code uint16, value []byte) error {
	switch code {
	case ifName:
		in.Name = string(value)
	case ifDescription:
		in.Description = string(value)
	case ifTimeUnit:
		if len(value) != 1 {
			return p.source.errorf("a unit of time of %d bytes", len(value))
		}
		in.clock.unit = value[0]
		if !in.clock.known() {
			return p.source.errorf("the unit of time %#02x is too small", value[0])
		}
	case ifTimeOffset:
		if len(value) != 8 {
			return p.source.errorf("an offset of time of %d bytes", len(value))
		}
		in.clock.offset = int64(p.order.Uint64(value))
	}
	return nil
}

// packet reads an Enhanced Packet Block, whose header has a number of bytes.
func (p *ngFile) packet(body []byte, header int, f *frame) error {
	if len(body) < header {
		return p.source.errorf("a packet's block has %d bytes", len(body))
	}
	return p.packetOf(p.order.Uint32(body), body, header, f)
}

// oldPacket reads a Packet Block, which counts drops beside a shorter number of its
// interface.
func (p *ngFile) oldPacket(body []byte, f *frame) error {
	const header = 20
	if len(body) < header {
		return p.source.errorf("a packet's block has %d bytes", len(body))
	}
	return p.packetOf(uint32(p.order.Uint16(body)), body, header, f)
}

func (p *ngFile) packetOf(number uint32, body []byte, header int, f *frame) error {
	if err := p.onInterface(number, f); err != nil {
		return err
	}
	stamp := uint64(p.order.Uint32(body[4:]))<<32 | uint64(p.order.Uint32(body[8:]))
	f.time = f.in.clock.time(stamp)
	captured := p.order.Uint32(body[12:])
	f.length = p.order.Uint32(body[16:])
	body = body[header:]
	if err := p.captured(body, captured, f); err != nil {
		return err
	}
	return p.options(body[min(len(body), int(captured+3)&^3):], f.option(p))
}

// option returns what keeps the options of a packet.
func (f *frame) option(p *ngFile) func(code uint16, value []byte) error {
	return func(code uint16, value []byte) error {
		switch {
		case code == optComment && f.comment == "":
			f.comment = string(value)
		case code == packetFlags && len(value) == 4:
			f.direction = Direction(p.order.Uint32(value) & 3 % 3)
		}
		return nil
	}
}

// simplePacket reads a block that has neither time nor options.
func (p *ngFile) simplePacket(body []byte, f *frame) error {
	if len(body) < 4 {
		return p.source.errorf("a packet's block has %d bytes", len(body))
	}
	if err := p.onInterface(0, f); err != nil {
		return err
	}
	f.time, f.length = time.Time{}, p.order.Uint32(body)
	captured := f.length
	if f.in.snapLen > 0 {
		captured = min(captured, f.in.snapLen)
	}
	return p.captured(body[4:], captured, f)
}

func (p *ngFile) onInterface(number uint32, f *frame) error {
	if int64(number) >= int64(len(p.interfaces)) {
		return p.source.errorf("a packet of interface %d, and there are %d",
			number, len(p.interfaces))
	}
	f.in = p.interfaces[number]
	return nil
}

// captured takes a packet's bytes from its block.
func (p *ngFile) captured(body []byte, captured uint32, f *frame) error {
	if err := checkLengths(p.source, captured, f.length); err != nil {
		return err
	}
	if int64(captured) > int64(len(body)) {
		return p.source.errorf("%d captured bytes do not fit in their block", captured)
	}
	f.data = body[:captured]
	return nil
}
