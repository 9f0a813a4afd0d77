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
	"syscall"
	"time"
)

const (
	answer   = 16 << 10         // bytes
	patience = 10 * time.Second // only for what hangs
	// pause is how long a client that was refused lets nsqueued alone.
	pause = 5 * time.Millisecond
)

// serve serves TLS and DNS, and prints a line when it does.
func serve(tlsAddress, dnsAddress string) error {
	certificate, err := newCertificate()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", tlsAddress, &tls.Config{
		Certificates: []tls.Certificate{certificate},
	})
	if err != nil {
		return err
	}
	queries, err := net.ListenPacket("udp", dnsAddress)
	if err != nil {
		return err
	}
	go answerQueries(queries)
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go answerConnection(conn)
	}
}

// answerConnection ends without a word where the client does.
func answerConnection(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var request [64]byte
	if _, err := io.ReadFull(conn, request[:]); err == nil {
		_, _ = conn.Write(make([]byte, answer))
	}
}

func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// connect returns how long a whole connection takes.
func connect(address, name string) (time.Duration, error) {
	began := time.Now()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(began.Add(patience))
	client := tls.Client(conn, clientConfig(name))
	if _, err := client.Write(make([]byte, 64)); err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, client)
	if err == nil && n != answer {
		err = fmt.Errorf("answer of %d bytes, want %d", n, answer)
	}
	return time.Since(began), err
}

// clientConfig trusts everybody: what is measured is between client and server.
func clientConfig(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}

// refused returns how long it takes until a client knows that it is, from its hello on.
func refused(address, name string) (time.Duration, error) {
	<-time.After(pause)
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	hello := &noted{Conn: conn}
	err = tls.Client(hello, clientConfig(name)).Handshake()
	took := time.Since(hello.first)
	if !errors.Is(err, syscall.ECONNRESET) {
		return 0, fmt.Errorf("handshake: %w; want a reset", err)
	}
	return took, nil
}

// noted is a connection that notes when its first bytes are sent.
type noted struct {
	net.Conn

	first time.Time
}

// Write sends bytes.
func (n *noted) Write(b []byte) (int, error) {
	if n.first.IsZero() {
		n.first = time.Now()
	}
	return n.Conn.Write(b)
}
