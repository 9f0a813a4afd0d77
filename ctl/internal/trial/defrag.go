// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/internal/pcap"
)

// defragmenter joins fragments of IP packets, as the kernel does before nsqueued sees
// them. What overlaps is dropped, as by the kernel.
type defragmenter struct {
	parts map[string]*parts
	order []string // of keys, the oldest first
}

// maxFragmented is how many packets may be incomplete at a time.
const maxFragmented = 1024

// parts are the fragments of one packet.
type parts struct {
	head    []byte // of the first fragment, without what says that it is one
	pieces  []piece
	end     int // 0 while the last one has not come
	dropped bool
}

type piece struct {
	at   int
	data []byte
}

// fragment is what a packet says of itself as a fragment.
type fragment struct {
	key  string
	head []byte
	piece
	more bool
}

// join returns the whole packet that a packet is or completes, and false while there is
// none.
func (d *defragmenter) join(p *pcap.Packet) (*pcap.Packet, bool) {
	f, ok := readFragment(p.IP)
	if !ok || len(p.IP) < p.Length {
		return p, true
	}
	of := d.parts[f.key]
	if of == nil {
		of = d.add(f.key)
	}
	of.add(&f)
	whole := of.whole()
	if whole == nil {
		return nil, false
	}
	d.remove(f.key)
	joined := *p
	joined.IP, joined.Length = whole, len(whole)
	return &joined, true
}

func (d *defragmenter) add(key string) *parts {
	if d.parts == nil {
		d.parts = make(map[string]*parts)
	}
	if len(d.order) == maxFragmented {
		d.remove(d.order[0])
	}
	d.parts[key] = new(parts)
	d.order = append(d.order, key)
	return d.parts[key]
}

func (d *defragmenter) remove(key string) {
	delete(d.parts, key)
	d.order = slices.DeleteFunc(d.order, func(k string) bool { return k == key })
}

// add adds a fragment, at its place.
func (o *parts) add(f *fragment) {
	f.data = bytes.Clone(f.data)
	i, _ := slices.BinarySearchFunc(o.pieces, f.at, func(p piece, at int) int {
		return p.at - at
	})
	end := f.at + len(f.data)
	switch {
	case i < len(o.pieces) && o.pieces[i].at == f.at && bytes.Equal(o.pieces[i].data, f.data):
		return // it came twice
	case i < len(o.pieces) && o.pieces[i].at < end,
		i > 0 && o.pieces[i-1].at+len(o.pieces[i-1].data) > f.at,
		o.end > 0 && end > o.end, !f.more && o.end > 0 && o.end != end:
		o.dropped = true
		return
	}
	o.pieces = slices.Insert(o.pieces, i, f.piece)
	if f.at == 0 {
		o.head = bytes.Clone(f.head)
	}
	if !f.more {
		o.end = end
	}
}

// whole returns the packet if all its parts have come.
func (o *parts) whole() []byte {
	at := 0
	for _, p := range o.pieces {
		if p.at != at {
			return nil
		}
		at += len(p.data)
	}
	if o.dropped || o.end == 0 || at != o.end {
		return nil
	}
	b := bytes.Clone(o.head)
	for _, p := range o.pieces {
		b = append(b, p.data...)
	}
	return withLength(b)
}

// withLength sets the length in the header of a packet; nil if it has none for that.
func withLength(b []byte) []byte {
	const header6 = 40
	switch {
	case len(b) > 0xffff:
		return nil
	case b[0]>>4 == 4:
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	default:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-header6))
	}
	return b
}

// readFragment returns false for packets that are none.
func readFragment(b []byte) (fragment, bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return readFragment4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		return readFragment6(b)
	}
	return fragment{}, false
}

// readFragment4 reads a packet of RFC 791.
func readFragment4(b []byte) (fragment, bool) {
	const more, offset = 0x2000, 0x1fff
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	field := binary.BigEndian.Uint16(b[6:])
	if field&(more|offset) == 0 || header < 20 || total <= header || total > len(b) {
		return fragment{}, false
	}
	head := bytes.Clone(b[:header])
	binary.BigEndian.PutUint16(head[6:], 0)
	return fragment{
		key:   strings.Join([]string{string(b[4:6]), string(b[9:10]), string(b[12:20])}, ""),
		head:  head,
		piece: piece{int(field&offset) * 8, b[header:total]},
		more:  field&more != 0,
	}, true
}

// readFragment6 reads a packet of RFC 8200, whose header of fragments may come behind
// others.
func readFragment6(b []byte) (fragment, bool) {
	const hopByHop, routing, fragmented, options, header = 0, 43, 44, 60, 8
	next, at, total := 6, 40, 40+int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return fragment{}, false
	}
	for b[next] == hopByHop || b[next] == routing || b[next] == options {
		if at+header > total {
			return fragment{}, false
		}
		next, at = at, at+(int(b[at+1])+1)*8
	}
	if b[next] != fragmented || at+header >= total {
		return fragment{}, false
	}
	head := bytes.Clone(b[:at])
	head[next] = b[at]
	field := binary.BigEndian.Uint16(b[at+2:])
	return fragment{
		key:   string(b[8:40]) + string(b[at+4:at+8]),
		head:  head,
		piece: piece{int(field &^ 7), b[at+header : total]},
		more:  field&1 != 0,
	}, true
}
