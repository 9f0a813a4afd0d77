// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"net/netip"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// podNetwork is the first byte of the pod's address, which has all clients.
const podNetwork = 10

// The flags of TCP, and how long segments are.
const (
	fin     = 1 << 0
	syn     = 1 << 1
	push    = 1 << 3
	ack     = 1 << 4
	segment = 1400
)

// Clients have ports from the first on. Those of flows with one server differ.
const (
	firstPort = 1024
	ports     = 60_000
	servers   = 200
)

func client() netip.Addr { return netip.AddrFrom4([4]byte{podNetwork, 99, 0, 2}) }

func server(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + i%servers)}) }

// connection makes the packets of one over TCP. Both ends acknowledge what they get.
type connection struct {
	number   int
	port     uint16
	sequence [2]uint32 // of the client, and of the server
	packets  [][]byte
}

func index(ofClient bool) int {
	if ofClient {
		return 0
	}
	return 1
}

// dial opens the connection of the i-th flow.
func dial(i int, port uint16) *connection {
	c := &connection{number: i, port: port, sequence: [2]uint32{uint32(i), uint32(2 * i)}}
	c.send(true, syn, nil)
	c.send(false, syn|ack, nil)
	c.send(true, ack, nil)
	return c
}

// says sends bytes in as many segments as they take.
func (c *connection) says(fromClient bool, b []byte) {
	for len(b) > 0 {
		n := min(len(b), segment)
		c.send(fromClient, push|ack, b[:n])
		b = b[n:]
	}
	c.send(!fromClient, ack, nil)
}

// close ends the connection and returns its packets.
func (c *connection) close() [][]byte {
	c.send(true, fin|ack, nil)
	c.send(false, fin|ack, nil)
	c.send(true, ack, nil)
	return c.packets
}

func (c *connection) send(fromClient bool, flags byte, payload []byte) {
	from, to := c.ends(fromClient)
	b := transport(from, to, inspect.ProtoTCP, 20+len(payload))
	own := index(fromClient)
	b = binary.BigEndian.AppendUint32(b, c.sequence[own])
	acked := uint32(0)
	if flags&ack != 0 {
		acked = c.sequence[1-own]
	}
	b = binary.BigEndian.AppendUint32(b, acked)
	b = append(b, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	c.packets = append(c.packets, finished(append(b, payload...)))
	c.sequence[own] += uint32(len(payload))
	if flags&(syn|fin) != 0 {
		c.sequence[own]++
	}
}

func (c *connection) ends(fromClient bool) (from, to netip.AddrPort) {
	return ends(c.number, c.port, fromClient)
}

func ends(i int, port uint16, fromClient bool) (from, to netip.AddrPort) {
	from = netip.AddrPortFrom(client(), uint16(firstPort+i%ports))
	to = netip.AddrPortFrom(server(i), port)
	if !fromClient {
		from, to = to, from
	}
	return from, to
}

// datagram is one of the i-th flow, which asks a name server.
func datagram(i int, fromClient bool, payload []byte) []byte {
	from, to := ends(i, 53, fromClient)
	b := transport(from, to, inspect.ProtoUDP, 8+len(payload))
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(b, 0, 0)
	return finished(append(b, payload...))
}

// transport returns an IP header and the ports behind it.
func transport(from, to netip.AddrPort, protocol byte, length int) []byte {
	b := make([]byte, 20, 24+length)
	b[0], b[6], b[8], b[9] = 4<<4|5, 0x40, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+length))
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	b = binary.BigEndian.AppendUint16(b, from.Port())
	return binary.BigEndian.AppendUint16(b, to.Port())
}

// finished has its checksums.
func finished(b []byte) []byte {
	inspect.FixChecksums(b)
	return b
}
