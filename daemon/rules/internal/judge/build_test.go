// SPDX-License-Identifier: Apache-2.0

package judge

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules/internal/stream"
)

const (
	syn = stream.SYN
	ack = stream.ACK
	fin = stream.FIN
	rst = stream.RST
	urg = stream.URG
)

// ip puts a header of IP before a transport.
func ip(source, destination netip.Addr, protocol uint8, transport []byte) []byte {
	var b []byte
	if source.Is4() {
		b = make([]byte, 20, 20+len(transport))
		b[0], b[8], b[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(transport)))
		copy(b[12:], source.AsSlice())
		copy(b[16:], destination.AsSlice())
	} else {
		b = make([]byte, 40, 40+len(transport))
		b[0], b[6], b[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(transport)))
		copy(b[8:], source.AsSlice())
		copy(b[24:], destination.AsSlice())
	}
	b = append(b, transport...)
	inspect.FixChecksums(b)
	return b
}

// tcp makes a segment.
func tcp(source, destination netip.AddrPort, flags uint8, seq, acked uint32, options, payload []byte) []byte {
	h := make([]byte, 20+len(options))
	binary.BigEndian.PutUint16(h, source.Port())
	binary.BigEndian.PutUint16(h[2:], destination.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], acked)
	h[12], h[13] = byte(len(h)/4)<<4, flags
	copy(h[20:], options)
	return ip(source.Addr(), destination.Addr(), inspect.ProtoTCP, append(h, payload...))
}

// udp makes a datagram.
func udp(source, destination netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, source.Port())
	binary.BigEndian.PutUint16(h[2:], destination.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return ip(source.Addr(), destination.Addr(), inspect.ProtoUDP, append(h, payload...))
}

// icmp makes a message with these bytes behind its checksum.
func icmp(source, destination netip.Addr, kind, code byte, rest []byte) []byte {
	protocol := uint8(inspect.ProtoICMP)
	if source.Is6() {
		protocol = inspect.ProtoICMPv6
	}
	return ip(source, destination, protocol, slices.Concat([]byte{kind, code, 0, 0}, rest))
}

// conn is a connection of TCP.
type conn struct {
	b              *bench
	client, server netip.AddrPort
	cseq, sseq     uint32
}

func (b *bench) conn(client, server string) *conn {
	return &conn{
		b: b, client: netip.MustParseAddrPort(client), server: netip.MustParseAddrPort(server),
		cseq: 1000, sseq: 5000,
	}
}

func (b *bench) web() *conn { return b.conn("10.0.0.1:40000", "203.0.113.5:443") }

func (c *conn) fromClient(flags uint8, seq uint32, payload []byte, options ...byte) Outcome {
	return c.b.send(tcp(c.client, c.server, flags, seq, c.sseq, options, payload))
}

func (c *conn) fromServer(flags uint8, seq uint32, payload []byte) Outcome {
	return c.b.send(tcp(c.server, c.client, flags, seq, c.cseq, nil, payload))
}

// open opens the connection, of which nothing is decided yet.
func (c *conn) open() *conn {
	c.b.tb.Helper()
	o := c.fromClient(syn, c.cseq, nil)
	c.cseq++
	p := c.fromServer(syn|ack, c.sseq, nil)
	c.sseq++
	q := c.fromClient(ack, c.cseq, nil)
	for _, o := range []Outcome{o, p, q} {
		if o.Action != Pass {
			c.b.tb.Fatalf("the handshake is answered with %+v", o)
		}
	}
	return c
}

// say sends bytes to the server, and reply sends some to the client.
func (c *conn) say(payload []byte) Outcome {
	o := c.fromClient(ack, c.cseq, payload)
	c.cseq += uint32(len(payload))
	return o
}

func (c *conn) reply(payload []byte) Outcome {
	o := c.fromServer(ack, c.sseq, payload)
	c.sseq += uint32(len(payload))
	return o
}

// clientHello returns what a client sends first to a server with a name.
func clientHello(tb testing.TB, name string) []byte {
	tb.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() {
		config := &tls.Config{
			ServerName: name, NextProtos: []string{"h2"}, InsecureSkipVerify: true,
			CurvePreferences: []tls.CurveID{tls.X25519},
		}
		_ = tls.Client(theirs, config).HandshakeContext(context.Background()) //nolint:usetesting // it ends with the pipe
	}()
	b := make([]byte, 4096)
	n, err := ours.Read(b)
	if err != nil {
		tb.Fatal(err)
	}
	return b[:n]
}

// query makes a message of DNS that asks for names.
func query(id uint16, names ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, byte(len(names)), 0, 0, 0, 0, 0, 0)
	for _, name := range names {
		for label := range strings.SplitSeq(name, ".") {
			b = append(append(b, byte(len(label))), label...)
		}
		b = append(b, 0, 0, 1, 0, 1)
	}
	return b
}

// overTCP puts its length before a message of DNS.
func overTCP(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// response makes the answer to a query with addresses.
func response(message []byte, addrs ...string) []byte {
	b := slices.Clone(message)
	b[2] |= 0x80
	b[7] = byte(len(addrs))
	for _, addr := range addrs {
		a := netip.MustParseAddr(addr).AsSlice()
		kind := byte(1)
		if len(a) == 16 {
			kind = 28
		}
		b = append(b, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, byte(len(a)))
		b = append(b, a...)
	}
	return b
}

func netipPort(addr string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
}
