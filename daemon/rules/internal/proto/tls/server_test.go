// SPDX-License-Identifier: Apache-2.0

package tls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Where a server of the standard library takes a stream, the Hello has what the
// server sees, or the stream is malformed: no client shows them two names.
func FuzzServer(f *testing.F) {
	for _, name := range []string{"plain.hex", "post-quantum.hex", "records-100.hex", "upper-case.hex"} {
		f.Add(stream(f, name))
	}
	for _, m := range [][]byte{
		published(), plain("a.example."), plain("192.0.2.1"),
		hello([]uint16{0x1301}, sniList(sniEntry(7, "?"), sniEntry(0, "a.example"))),
		hello([]uint16{0x1301}, sniList(sniEntry(0, "a.example"), sniEntry(0, "b.example"))),
		hello([]uint16{0x1301}, sni("outer.example"), extension(extECH, []byte{1, 2, 3})),
		message(body(VersionTLS10, []uint16{5, 4})),
	} {
		f.Add(records(m, 1<<14))
		f.Add(slices.Concat(rec(recordAlert, 1, 112), records(m, 20)))
		f.Add(slices.Concat(rec(recordHandshake, 1), rec(recordAlert, 1, 112), records(m[1:], 30)))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		var h Hello
		m, status := new(Joiner).Join(s, nil)
		if status == Complete {
			status = h.Parse(m)
		}
		if status == Complete {
			checkHello(t, &h)
		}
		seen := serve(s)
		switch {
		case seen == nil || status == Malformed || status == Limit:
		case status == More:
			t.Error("the server needs no more bytes")
		case Recognise(s) != Yes:
			t.Error("the server recognises it")
		default:
			compare(t, &h, seen)
		}
	})
}

func checkHello(t *testing.T, h *Hello) {
	t.Helper()
	if len(h.SNI) > maxNameLen || bytes.HasSuffix(h.SNI, []byte{'.'}) ||
		!bytes.Equal(bytes.ToLower(h.SNI), h.SNI) || strings.ContainsAny(string(h.SNI), "\x00\r\n\" :%") {
		t.Errorf("name %q", h.SNI)
	}
	if got := h.AppendJA4(nil, QUIC); len(got) != ja4Len {
		t.Errorf("fingerprint %q", got)
	}
}

func compare(t *testing.T, h *Hello, seen *tls.ClientHelloInfo) {
	t.Helper()
	if name := strings.ToLower(seen.ServerName); name != string(h.SNI) {
		t.Errorf("name %q, the server sees %q", h.SNI, name)
	}
	if got := protocols(h); !slices.Equal(got, seen.SupportedProtos) {
		t.Errorf("protocols %q, the server sees %q", got, seen.SupportedProtos)
	}
	if got := slices.Collect(h.Ciphers.All()); !slices.Equal(got, seen.CipherSuites) {
		t.Errorf("ciphers %x, the server sees %x", got, seen.CipherSuites)
	}
	var extensions []uint16
	for kind := range h.Extensions.All() {
		extensions = append(extensions, kind)
	}
	if !slices.Equal(extensions, seen.Extensions) {
		t.Errorf("extensions %x, the server sees %x", extensions, seen.Extensions)
	}
}

// serve returns what a server sees of the client that sends s and no more.
func serve(s []byte) *tls.ClientHelloInfo {
	var seen *tls.ClientHelloInfo
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = info
		return nil, errors.New("that is all")
	}}
	_ = tls.Server(&recorded{Reader: bytes.NewReader(s)}, config).Handshake()
	return seen
}

// recorded is a connection that has come to its end.
type recorded struct {
	*bytes.Reader
	net.Conn
}

func (c *recorded) Read(b []byte) (int, error)     { return c.Reader.Read(b) }
func (*recorded) Write(b []byte) (int, error)      { return len(b), nil }
func (*recorded) SetWriteDeadline(time.Time) error { return nil }
func (*recorded) Close() error                     { return nil }

// A client of the standard library is understood, whatever it is told to offer.
func TestClient(t *testing.T) {
	for _, config := range []*tls.Config{
		{ServerName: "www.Blocked.example", NextProtos: []string{"h2", "http/1.1"}},
		{ServerName: "www.blocked.example", MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS10},
		{ServerName: "192.0.2.1"}, // which it does not send
	} {
		sent := &sender{}
		_ = tls.Client(sent, config).Handshake()
		var h Hello
		m, status := new(Joiner).Join(sent.Bytes(), nil)
		if status != Complete || h.Parse(m) != Complete {
			t.Fatalf("%s: %d", config.ServerName, status)
		}
		want := "www.blocked.example"
		if config.ServerName == "192.0.2.1" {
			want = ""
		}
		if string(h.SNI) != want || !slices.Equal(protocols(&h), config.NextProtos) {
			t.Errorf("name %q, protocols %q", h.SNI, protocols(&h))
		}
		if config.MaxVersion != 0 && h.Version != config.MaxVersion {
			t.Errorf("version %#x", h.Version)
		}
	}
}

// sender keeps what a client sends, and answers nothing.
type sender struct {
	bytes.Buffer
	net.Conn
}

func (*sender) Read([]byte) (int, error)         { return 0, io.EOF }
func (s *sender) Write(b []byte) (int, error)    { return s.Buffer.Write(b) }
func (*sender) SetWriteDeadline(time.Time) error { return nil }
func (*sender) Close() error                     { return nil }
