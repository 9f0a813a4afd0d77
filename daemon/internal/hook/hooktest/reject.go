// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/reject"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// What a rejector rejects: a packet with the word, or what opens a connection to the
// port, 0 for none.
const (
	forbidden    = "forbidden"
	closedServer = 4242
)

// rejector accepts what it does not reject, and counts the answers that it sees: none,
// because the ends have nothing to answer.
type rejector struct {
	settle  bool
	answers atomic.Int32
}

// Inspect rejects.
func (r *rejector) Inspect(p *inspect.Packet) inspect.Verdict {
	f, ok := p.Flow()
	switch {
	case !ok:
	case f.DestinationPort == closedServer, bytes.Contains(f.Transport, []byte(forbidden)):
		if isAnswer(&f) {
			r.answers.Add(1)
		}
		return inspect.Verdict{Action: inspect.Reject, Settle: r.settle}
	case isAnswer(&f):
		r.answers.Add(1)
	}
	return inspect.Verdict{Action: inspect.Accept}
}

// isAnswer reports a reset, or that something is unreachable.
func isAnswer(f *inspect.Flow) bool {
	const flags, rst = 13, 1 << 2
	switch f.Protocol {
	case inspect.ProtoTCP:
		return f.Transport[flags]&rst != 0
	case inspect.ProtoICMP:
		return f.Transport[0] == 3
	case inspect.ProtoICMPv6:
		return f.Transport[0] == 1
	}
	return false
}

func testReject(t *testing.T, h hook.Hook)        { rejectAll(t, h, all()) }
func testRejectSettled(t *testing.T, h hook.Hook) { rejectAll(t, h, settling(1)) }

// rejectAll has connections and datagrams rejected, both ways in both families.
func rejectAll(t *testing.T, h hook.Hook, s hook.Selector) {
	f := newFixture(t, h)
	i := &rejector{settle: s.Settle.On()}
	f.readRejecting(i, s)
	f.arm(s)
	for _, way := range []struct {
		name           string
		client, server *nstest.NetNS
		address        netip.Addr
	}{
		{"out, IPv4", f.pod, f.peer, f.peer.IPv4()},
		{"out, IPv6", f.pod, f.peer, f.peer.IPv6()},
		{"in, IPv4", f.peer, f.pod, f.pod.IPv4()},
		{"in, IPv6", f.peer, f.pod, f.pod.IPv6()},
	} {
		e := &ends{t, way.name, way.client, way.server, way.address}
		e.refusedSYN()
		e.refusedData(true)
		e.refusedData(false)
		e.refusedDatagram()
	}
	if n := i.answers.Load(); n != 0 {
		t.Errorf("the inspector saw %d answers to what it had rejected", n)
	}
}

// readRejecting has the queue read, and its rejected packets answered.
func (f *fixture) readRejecting(i inspect.Inspector, s hook.Selector) {
	f.Helper()
	sender := reject.NewSender(f.ns, new(reject.Untold))
	f.Cleanup(func() { nstest.Must(f.T, sender.Close()) })
	r := readWith(f.T, f.ns, queueNumber, i, sender)
	if s.Settle.On() {
		r.SetSettle(s.Settle.Request(false), s.Settle.Request(true))
	}
}

// ends are those of connections and datagrams that are rejected.
type ends struct {
	*testing.T
	name           string
	client, server *nstest.NetNS
	address        netip.Addr
}

// refusedSYN expects that a connection is refused at once, and never accepted.
func (e *ends) refusedSYN() {
	e.Helper()
	server := e.server.ListenTCP(e.T, netip.AddrPortFrom(e.address, closedServer).String())
	began := time.Now()
	nstest.Must(e.T, e.client.Try(func() error {
		c, err := net.DialTimeout("tcp", server.Addr().String(), nstest.Patient(reply))
		if err == nil {
			_ = c.Close()
		}
		e.wantError("a connection", err, unix.ECONNREFUSED, began)
		return nil
	}))
	nstest.Must(e.T, server.SetDeadline(time.Now().Add(nstest.Patient(silence))))
	if c, err := server.Accept(); err == nil {
		_ = c.Close()
		e.Errorf("%s: the server got a connection", e.name)
	}
	nstest.Must(e.T, server.Close())
}

// refusedData expects that both ends are told at once when one has sent what is
// rejected, and that the other does not get it.
func (e *ends) refusedData(byClient bool) {
	e.Helper()
	server := e.server.ListenTCP(e.T, netip.AddrPortFrom(e.address, 0).String())
	defer server.Close()
	from := net.Conn(e.client.DialTCP(e.T, server.Addr().String()))
	to, err := server.Accept()
	nstest.Must(e.T, err)
	defer to.Close()
	if !byClient {
		from, to = to, from
	}
	for _, c := range []net.Conn{from, to} {
		_, err = c.Write([]byte("hello"))
		nstest.Must(e.T, err)
	}
	for _, c := range []net.Conn{from, to} {
		if got, err := e.read(c); got != "hello" {
			e.Fatalf("%s: %q, %v", e.name, got, err)
		}
	}
	began := time.Now()
	_, err = from.Write([]byte(forbidden))
	nstest.Must(e.T, err)
	for i, c := range []net.Conn{from, to} {
		got, err := e.read(c)
		e.wantError([]string{"who sends", "who receives"}[i], err, unix.ECONNRESET, began)
		if got != "" {
			e.Errorf("%s: %q arrived", e.name, got)
		}
	}
}

// refusedDatagram expects that the sender is told at once, and that nothing arrives.
func (e *ends) refusedDatagram() {
	e.Helper()
	server := e.server.ListenUDP(e.T, netip.AddrPortFrom(e.address, 0).String())
	client := e.client.DialUDP(e.T, server.LocalAddr().String())
	began := time.Now()
	_, err := client.Write([]byte(forbidden))
	nstest.Must(e.T, err)
	_, err = e.read(client)
	e.wantError("a datagram", err, unix.ECONNREFUSED, began)
	nstest.Must(e.T, server.SetReadDeadline(time.Now().Add(nstest.Patient(silence))))
	if n, err := server.Read(make([]byte, 16)); err == nil {
		e.Errorf("%s: %d bytes arrived", e.name, n)
	}
}

func (e *ends) read(c net.Conn) (string, error) {
	e.Helper()
	nstest.Must(e.T, c.SetReadDeadline(time.Now().Add(nstest.Patient(reply))))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// wantError also says how long it took.
func (e *ends) wantError(what string, got, want error, began time.Time) {
	e.Helper()
	if !errors.Is(got, want) {
		e.Errorf("%s: %s: %v, want %v", e.name, what, got, want)
		return
	}
	e.Logf("%s: %s: %v after %v", e.name, what, want, time.Since(began).Round(time.Microsecond))
}
