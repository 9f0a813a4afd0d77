// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Of all flows, concurrent ones are open at a time. One of every refusedOf is about a name
// that rules may refuse.
const (
	concurrent = 50
	refusedOf  = 10
	mostRules  = 1000
	fewRules   = 9 // of which each protocol has as many
	gap        = 200 * time.Microsecond
)

// capture is a file of packets.
type capture struct {
	path                  string
	flows, packets, bytes int
	hits                  map[int]int // flows by the number of what they are about
}

// refusedBy returns how often each of so many rules is to refuse.
func (c *capture) refusedBy(number int) map[string]int {
	counts := make(map[string]int)
	for n, count := range c.hits {
		if n < number {
			counts[ruleName(n)] = count
		}
	}
	return counts
}

// writeCaptures writes one of so many flows, and one of twice as many.
func writeCaptures(dir string, flows int) ([]capture, error) {
	s, err := newSpeech()
	if err != nil {
		return nil, err
	}
	captures := make([]capture, 2)
	for i := range captures {
		c := &captures[i]
		c.flows, c.hits = (i+1)*flows, make(map[int]int)
		c.path = filepath.Join(dir, fmt.Sprintf("flows%d.pcap", c.flows))
		if err := c.write(s); err != nil {
			return nil, err
		}
	}
	return captures, nil
}

func (c *capture) write(s *speech) (err error) {
	file, err := os.Create(c.path)
	if err != nil {
		return err
	}
	w := &writer{Writer: bufio.NewWriterSize(file, 1<<20), capture: c}
	defer func() { err = errors.Join(err, w.Flush(), file.Close()) }()
	if err := w.head(); err != nil {
		return err
	}
	for first := 0; first < c.flows; first += concurrent {
		if err := w.interleaved(s, first, min(first+concurrent, c.flows)); err != nil {
			return err
		}
	}
	return nil
}

// writer writes the format pcap.
type writer struct {
	*bufio.Writer

	capture *capture
	at      time.Duration
}

// head says that packets begin with their IP header, and times are in nanoseconds.
func (w *writer) head() error {
	const magic, major, minor, longest, raw = 0xa1b23c4d, 2, 4, 1 << 18, 101
	b := binary.LittleEndian.AppendUint32(nil, magic)
	b = binary.LittleEndian.AppendUint16(b, major)
	b = binary.LittleEndian.AppendUint16(b, minor)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, longest)
	b = binary.LittleEndian.AppendUint32(b, raw)
	_, err := w.Write(b)
	return err
}

// interleaved writes some flows, a packet of each in turn.
func (w *writer) interleaved(s *speech, first, behind int) error {
	var flows [][][]byte
	for i := first; i < behind; i++ {
		name, number := nameOf(i)
		if number >= 0 {
			w.capture.hits[number]++
		}
		packets, err := s.flow(i, name)
		if err != nil {
			return err
		}
		flows = append(flows, packets)
	}
	for left := true; left; {
		left = false
		for i := range flows {
			if len(flows[i]) == 0 {
				continue
			}
			if err := w.packet(flows[i][0]); err != nil {
				return err
			}
			flows[i], left = flows[i][1:], true
		}
	}
	return nil
}

func (w *writer) packet(b []byte) error {
	w.at += gap
	head := binary.LittleEndian.AppendUint32(nil, uint32(1_800_000_000+w.at/time.Second))
	head = binary.LittleEndian.AppendUint32(head, uint32(w.at%time.Second))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(b)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(b)))
	w.capture.packets++
	w.capture.bytes += len(b)
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// speaks is what the i-th flow speaks: half of all speak TLS.
func speaks(i int) protocol {
	return [...]protocol{speaksTLS, speaksDNS, speaksTLS, speaksHTTP}[i%4]
}

// nameOf returns what the i-th flow is about, and the number of the rule that may refuse
// it, or −1. Half of those are for the first few rules.
func nameOf(i int) (name string, number int) {
	turn := i / 4
	if turn%refusedOf != 0 {
		return fmt.Sprintf("n%d.allowed.example", turn%200), -1
	}
	turn /= refusedOf
	of := mostRules / int(protocols)
	if turn%2 == 0 {
		of = fewRules / int(protocols)
	}
	number = int(speaks(i)) + int(protocols)*(turn/2%of)
	return refusedName(number), number
}
