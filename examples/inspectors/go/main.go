// SPDX-License-Identifier: Apache-2.0

// Go drops DNS questions for blocked.example, marks those for marked.example, and accepts
// the rest. It speaks the protocol itself, with the standard library alone.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"
)

const (
	hello, welcome, batch, verdicts = 1, 2, 5, 6
	accept, drop                    = 1, 2
	mark                            = 0x01000000
)

// question returns the name that a packet asks DNS for, in lower case, or nothing.
func question(p []byte) string {
	if len(p) < 48 || p[0]>>4 != 4 && p[0]>>4 != 6 {
		return ""
	}
	protocol, at := p[9], int(p[0]&15)*4
	if p[0]>>4 == 6 {
		protocol, at = p[6], 40
	}
	if protocol != 17 || at+20 > len(p) || binary.BigEndian.Uint16(p[at+2:]) != 53 {
		return ""
	}
	var labels [][]byte
	for at += 20; at < len(p) && p[at] > 0 && p[at] < 64; at += 1 + int(p[at]) {
		if at+1+int(p[at]) > len(p) {
			break
		}
		labels = append(labels, bytes.ToLower(p[at+1:at+1+int(p[at])]))
	}
	return string(bytes.Join(labels, []byte(".")))
}

func judge(p []byte) (action byte, marks uint32) {
	switch question(p) {
	case "blocked.example":
		return drop, 0
	case "marked.example":
		return accept, mark
	}
	return accept, 0
}

// answer makes the VERDICTS about a BATCH.
func answer(m []byte) []byte {
	le, count := binary.LittleEndian, int(binary.LittleEndian.Uint16(m[12:]))
	v := make([]byte, 16+16*count)
	le.PutUint16(v, verdicts)
	le.PutUint32(v[4:], uint32(len(v)))
	copy(v[8:14], m[8:14]) // sequence, count
	for i := range count {
		packet, one := m[24+64*i:], v[16+16*i:]
		captured, offset := le.Uint32(packet[8:]), le.Uint32(packet[12:])
		action, marks := judge(m[offset : offset+captured])
		copy(one, packet[:4]) // ID
		one[4] = action
		le.PutUint32(one[8:], marks)
		le.PutUint32(one[12:], marks)
	}
	return v
}

func serve(path string) error {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	defer c.Close()
	h := make([]byte, 32)
	copy(h, []byte{hello, 0, 0, 0, 32 + 10, 0, 0, 0, 'n', 's', 'q', 'I', 1})
	h[26] = 10 // of the name
	_, err = c.Write(append(h, "go example"...))
	for m := make([]byte, 131072); err == nil; _, err = c.Read(m) {
		switch binary.LittleEndian.Uint16(m) {
		case welcome:
			fmt.Println("connected")
		case batch:
			_, _ = c.Write(answer(m))
		}
		clear(m[:2])
	}
	return err
}

func main() {
	for ; ; <-time.After(100 * time.Millisecond) { // nsqueued may start later, and again
		fmt.Println("away:", serve(os.Args[1]))
	}
}
