// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// serve answers until the context ends or a server fails.
func serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	names, err := net.Listen("tcp", ":53")
	if err != nil {
		return err
	}
	udpNames, err := net.ListenPacket("udp", ":53")
	if err != nil {
		return err
	}
	echo, err := net.ListenPacket("udp", ":7")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() {
		for _, c := range []io.Closer{web, names, udpNames, echo} {
			_ = c.Close()
		}
	})
	var servers sync.WaitGroup
	var once sync.Once
	var first error
	for _, server := range []func() error{
		func() error { return http.Serve(web, http.HandlerFunc(hello)) },
		func() error { return serveTCP(names) },
		func() error { return servePackets(udpNames, answer) },
		func() error {
			return servePackets(echo, func(b []byte) ([]byte, error) { return b, nil })
		},
	} {
		servers.Go(func() {
			err := server()
			once.Do(func() { first = err })
			cancel()
		})
	}
	servers.Wait()
	if errors.Is(first, net.ErrClosed) {
		return nil
	}
	return first
}

func hello(w http.ResponseWriter, _ *http.Request) {
	name, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "hello from %s\n", name)
}

// servePackets answers each datagram.
func servePackets(c net.PacketConn, reply func([]byte) ([]byte, error)) error {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		b, err := reply(buf[:n])
		if err != nil {
			continue // not a question
		}
		if _, err := c.WriteTo(b, from); err != nil && errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// serveTCP answers questions with their length in front, one connection after
// the other.
func serveTCP(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		answerTCP(c)
		_ = c.Close()
	}
}

func answerTCP(c net.Conn) {
	var size [2]byte
	for {
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		b, err := answer(question)
		if err != nil {
			return
		}
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// address is that of every name.
func address() [4]byte { return [4]byte{192, 0, 2, 53} }

// answer gives the first question its answer.
func answer(question []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(question)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	header.Response, header.Authoritative = true, true
	b := dnsmessage.NewBuilder(nil, header)
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if q.Type == dnsmessage.TypeA {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
		if err := b.AResource(h, dnsmessage.AResource{A: address()}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}
