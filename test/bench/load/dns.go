// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answerQueries answers each query with the same address, until its socket is closed.
func answerQueries(conn net.PacketConn) {
	var b [512]byte
	for {
		n, from, err := conn.ReadFrom(b[:])
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response = true
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{
				Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60,
			},
			Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 5}},
		}}
		if packed, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(packed, from)
		}
	}
}

// measureQueries asks one after the other, all from one port.
func measureQueries(address, name string, count int) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	asked, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return err
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		},
	}
	query, err := m.Pack()
	if err != nil {
		return err
	}
	times := make([]time.Duration, 0, count)
	began := time.Now()
	for i := range count {
		binary.BigEndian.PutUint16(query, uint16(i))
		took, err := ask(conn, query)
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	return printTimes(times, time.Since(began))
}

func ask(conn net.Conn, query []byte) (time.Duration, error) {
	began := time.Now()
	_ = conn.SetDeadline(began.Add(patience))
	if _, err := conn.Write(query); err != nil {
		return 0, err
	}
	var b [512]byte
	n, err := conn.Read(b[:])
	if err == nil && (n < 2 || b[0] != query[0] || b[1] != query[1]) {
		err = fmt.Errorf("the answer of %d bytes is to another query", n)
	}
	return time.Since(began), err
}
