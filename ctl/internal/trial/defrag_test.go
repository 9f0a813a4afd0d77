// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/internal/pcap"
)

// fragmented returns a packet of UDP with 24 bytes in pieces of 8, and the whole.
func fragmented(family int) (pieces [][]byte, whole []byte) {
	payload := []byte("\x13\x88\x00\x35\x00\x18\x00\x00ABCDEFGHIJKLMNOP")
	if family == 4 {
		head := []byte("\x45\x00\x00\x2c\x00\x07\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02")
		for at := 0; at < len(payload); at += 8 {
			p := append(bytes.Clone(head), payload[at:at+8]...)
			p[3] = byte(len(p))
			field := uint16(at / 8)
			if at+8 < len(payload) {
				field |= 0x2000
			}
			binary.BigEndian.PutUint16(p[6:], field)
			pieces = append(pieces, p)
		}
		return pieces, append(head, payload...)
	}
	head := append([]byte("\x60\x00\x00\x00\x00\x20\x3c\x40"), bytes.Repeat([]byte{0xfd}, 32)...)
	options := []byte("\x2c\x00\x01\x04\x00\x00\x00\x00")
	for at := 0; at < len(payload); at += 8 {
		field := uint16(at)
		if at+8 < len(payload) {
			field |= 1
		}
		fragment := binary.BigEndian.AppendUint16([]byte{17, 0}, field)
		p := slices.Concat(head, options, fragment, []byte{0, 0, 0, 7}, payload[at:at+8])
		p[5] = byte(len(p) - 40)
		pieces = append(pieces, p)
	}
	options[0] = 17
	return pieces, slices.Concat(head, options, payload)
}

// join returns what becomes of packets.
func join(d *defragmenter, packets ...[]byte) (whole [][]byte) {
	for _, b := range packets {
		if p, ok := d.join(&pcap.Packet{IP: b, Length: len(b)}); ok {
			whole = append(whole, p.IP)
		}
	}
	return whole
}

func TestDefragment(t *testing.T) {
	for _, family := range []int{4, 6} {
		p, whole := fragmented(family)
		overlap := bytes.Clone(p[1])
		overlap[len(overlap)-1]++
		for name, test := range map[string]struct {
			packets, want [][]byte
		}{
			"in order":   {p, [][]byte{whole}},
			"last first": {[][]byte{p[2], p[0], p[1]}, [][]byte{whole}},
			"twice":      {[][]byte{p[1], p[1], p[2], p[0]}, [][]byte{whole}},
			"overlap":    {[][]byte{p[1], overlap, p[2], p[0]}, nil},
			"incomplete": {p[:2], nil},
			"none":       {[][]byte{whole}, [][]byte{whole}},
		} {
			if diff := cmp.Diff(test.want, join(new(defragmenter), test.packets...)); diff != "" {
				t.Errorf("IPv%d, %s (-want +got):\n%s", family, name, diff)
			}
		}
	}
}

// The oldest incomplete packets are forgotten.
func TestDefragmentBound(t *testing.T) {
	var d defragmenter
	p, _ := fragmented(4)
	for i := range 2 * maxFragmented {
		b := bytes.Clone(p[0])
		binary.BigEndian.PutUint16(b[4:], uint16(i))
		join(&d, b)
	}
	if len(d.parts) != maxFragmented || len(d.order) != maxFragmented {
		t.Errorf("%d packets, %d in order", len(d.parts), len(d.order))
	}
}
