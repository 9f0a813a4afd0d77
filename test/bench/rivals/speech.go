// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// speech is what clients and servers say. A client of TLS says the same each time that it
// asks for a name, and all servers say what one has said.
type speech struct {
	hellos                map[string][]byte
	flight, finished, end []byte
}

// newSpeech records a handshake.
func newSpeech() (*speech, error) {
	s := &speech{hellos: make(map[string][]byte)}
	certificate, err := selfSigned()
	if err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	defer client.Close()
	heard := &recorder{Conn: client}
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- tls.Server(server, &tls.Config{
			Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true,
		}).Handshake()
	}()
	config := &tls.Config{ServerName: "x.example"}
	config.InsecureSkipVerify = true // it is a recording
	err = tls.Client(heard, config).Handshake()
	if err = errors.Join(err, <-done); err != nil {
		return nil, fmt.Errorf("record a handshake: %w", err)
	}
	s.flight, s.finished = heard.read, heard.after
	const answers, size = 3, 1200
	for range answers {
		s.end = append(append(s.end, 23, 3, 3, size>>8, size&0xff), make([]byte, size)...)
	}
	return s, nil
}

// recorder keeps what a client hears, and what it says afterwards.
type recorder struct {
	net.Conn

	read, after []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.read = append(r.read, b[:n]...)
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) {
	if len(r.read) > 0 {
		r.after = append(r.after, b...)
	}
	return r.Conn.Write(b)
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// hello returns what a client of TLS says first.
func (s *speech) hello(name string) ([]byte, error) {
	if b := s.hellos[name]; b != nil {
		return b, nil
	}
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_ = tls.Client(there, &tls.Config{ServerName: name}).Handshake() // nobody answers
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(here, head); err != nil {
		return nil, err
	}
	b := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	_, err := io.ReadFull(here, b[5:])
	s.hellos[name] = b
	return b, err
}

// flow returns the packets of the i-th flow.
func (s *speech) flow(i int, name string) ([][]byte, error) {
	switch speaks(i) {
	case speaksDNS:
		return queryFlow(i, name)
	case speaksHTTP:
		c := dial(i, 80)
		c.says(true, []byte("GET /index.html HTTP/1.1\r\nHost: "+name+
			"\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"))
		c.says(false, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"+
			"Content-Length: 2000\r\n\r\n"+strings.Repeat("x", 2000)))
		return c.close(), nil
	}
	hello, err := s.hello(name)
	if err != nil {
		return nil, err
	}
	c := dial(i, 443)
	c.says(true, hello)
	c.says(false, s.flight)
	c.says(true, s.finished)
	c.says(false, s.end)
	return c.close(), nil
}

// queryFlow is a question and its answer.
func queryFlow(i int, name string) ([][]byte, error) {
	q := dnsmessage.Question{Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	var err error
	if q.Name, err = dnsmessage.NewName(name + "."); err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(i), RecursionDesired: true},
		Questions: []dnsmessage.Question{q},
	}
	question, err := m.Pack()
	if err != nil {
		return nil, err
	}
	m.Response = true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
		Body:   &dnsmessage.AResource{A: server(i).As4()},
	}}
	answer, err := m.Pack()
	if err != nil {
		return nil, err
	}
	return [][]byte{
		datagram(i, true, question), datagram(i, false, answer),
	}, nil
}
