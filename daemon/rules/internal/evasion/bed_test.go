// SPDX-License-Identifier: Apache-2.0

//go:build netns

package evasion

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/hook/nft"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/daemon/internal/state"
	"github.com/nsqueue/nsqueue/daemon/rules"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const patience = time.Minute // only for what hangs

// seen is an inspector by rules that remembers what kinds of packets it has seen.
type seen struct {
	*rules.Inspector
	merged, fragments, early atomic.Uint64
}

func (s *seen) InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict) {
	for _, p := range packets {
		f, _ := p.Flow()
		switch {
		case f.Fragment:
			s.fragments.Add(1)
		case p.Merged:
			s.merged.Add(1)
		case f.Protocol == inspect.ProtoTCP && f.Transport[13]&(syn|ack) == syn && len(f.Transport) > 100:
			s.early.Add(1)
		}
	}
	s.Inspector.InspectBatch(packets, verdicts)
}

// bed is a pod whose packets are judged by rules, and a peer.
type bed struct {
	*registry.Registry
	t         *testing.T
	inspector *seen
	pod, peer *nstest.NetNS
}

// kernel runs a test under a deny list and under an allow list, each with the blocked name
// and with the allowed one.
func kernel(t *testing.T, test func(b *bed, name string)) {
	for list, spec := range map[string]string{"deny list": denyList, "allow list": allowList} {
		for _, name := range []string{blockedName, allowedName} {
			t.Run(list+" "+name, func(t *testing.T) { test(newBed(t, spec), name) })
		}
	}
}

func newBed(t *testing.T, spec string) *bed {
	t.Helper()
	return newBedOf(t, rules.Options{Rules: compile(t, spec)})
}

func newBedOf(t *testing.T, o rules.Options) *bed {
	t.Helper()
	b := &bed{t: t, inspector: &seen{Inspector: rules.New(o)}}
	b.pod, b.peer = nstest.Pair(t)
	h, err := nft.New()
	must(t, err)
	store, err := state.Open(t.TempDir())
	must(t, err)
	b.Registry, err = registry.New(registry.Options{
		Inspector: b.inspector, Store: store, FailurePolicy: api.Fail,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Queue: nfqueue.Config{
			Number: nfqueue.DefaultNumber, Length: nfqueue.DefaultLength,
			CopyRange: nfqueue.MaxCopyRange, ReceiveBuffer: nfqueue.DefaultReceiveBuffer,
			Defers: true,
		},
		Directions: hook.AllDirections, MarkMask: 0xff000000, BufferTotal: 1 << 30,
		Settle: hook.Settle{Generation: 1, Timeout: time.Minute, Size: 1024},
	})
	must(t, err)
	past, err := b.Inherit(nil, nil)
	must(t, err)
	b.Restore(t.Context(), past, registry.Hooks{Hook: h})
	t.Cleanup(func() {
		_, err := b.DetachAll(context.WithoutCancel(t.Context()))
		must(t, err)
		must(t, b.Registry.Close())
		must(t, store.Close())
	})
	_, err = b.Attach(t.Context(), api.AttachRequest{
		Key: api.Key{ContainerID: "one", Ifname: "eth0"}, Network: "n", Origin: api.OriginCNI,
		FailurePolicy: api.Fail, NetnsPath: b.pod.Path(),
	}, nil)
	must(t, err)
	return b
}

// settled returns how many flows were settled.
func (b *bed) settled() uint64 {
	b.t.Helper()
	list, err := b.List(b.t.Context())
	must(b.t, err)
	return list[0].Counters.Settled
}

// served is what a server got of its first client.
type served struct {
	listener *net.TCPListener
	conn     chan *net.TCPConn
}

// serve lets a server listen, and accept one client after the other.
func (b *bed) serve(ns *nstest.NetNS, address string, options ...nstest.SocketOption) *served {
	b.t.Helper()
	s := &served{listener: ns.ListenTCP(b.t, address, options...), conn: make(chan *net.TCPConn, 8)}
	go func() {
		defer close(s.conn)
		for {
			c, err := s.listener.AcceptTCP()
			if err != nil {
				return
			}
			s.conn <- c
		}
	}()
	b.t.Cleanup(func() {
		_ = s.listener.Close()
		for c := range s.conn {
			_ = c.Close()
		}
	})
	return s
}

// await waits until the server has a client. Before, a reset may come to it earlier than the
// end of the handshake: the server then never learns of the client.
func (s *served) await() {
	c := <-s.conn
	s.conn <- c
}

func (s *served) addr() string { return s.listener.Addr().String() }

// wantHello expects that the server gets a hello, or, if its name is blocked, less of it, and
// that the client is told. Client is nil where it was refused before it was connected.
func (b *bed) wantHello(s *served, client *net.TCPConn, hello []byte, name string) {
	b.t.Helper()
	if name == blockedName && client != nil {
		must(b.t, client.SetReadDeadline(time.Now().Add(nstest.Patient(patience))))
		if _, err := client.Read(make([]byte, 1)); !isRefused(err) {
			b.t.Errorf("the client of %s: %v", name, err)
		}
	}
	if name == blockedName && client == nil {
		return
	}
	c := <-s.conn
	defer c.Close()
	must(b.t, c.SetDeadline(time.Now().Add(nstest.Patient(patience))))
	got, err := io.ReadFull(c, make([]byte, len(hello)))
	if isWhole := got == len(hello); isWhole == (name == blockedName) {
		b.t.Errorf("the server of %s: %d of %d bytes, %v", name, got, len(hello), err)
	}
	if name == allowedName {
		_, err = c.Write([]byte("hello"))
		must(b.t, err)
	}
}

func isRefused(err error) bool {
	return isErrno(err, unix.ECONNRESET) || isErrno(err, unix.ECONNREFUSED) || isErrno(err, unix.EPIPE)
}

// numbers returns the sequence numbers of the next bytes that a connection sends and
// receives.
func numbers(t *testing.T, c *net.TCPConn) (seq, acked uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		read := func(queue int) uint32 {
			must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue))
			n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			must(t, err)
			return uint32(n)
		}
		const receiveQueue, sendQueue = 1, 2
		must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
		seq, acked = read(sendQueue), read(receiveQueue)
		must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP))
	}))
	return seq, acked
}

// next is a segment that a connection could send next.
func next(t *testing.T, c *net.TCPConn, payload []byte) segment {
	t.Helper()
	s := segment{
		from: c.LocalAddr().(*net.TCPAddr).AddrPort(), to: c.RemoteAddr().(*net.TCPAddr).AddrPort(),
		flags: ack, payload: payload,
	}
	s.seq, s.ack = numbers(t, c)
	return s
}

// raw sends packets as they are.
func raw(t *testing.T, ns *nstest.NetNS, packets ...[]byte) {
	t.Helper()
	must(t, ns.Try(func() error {
		family := unix.AF_INET
		if packets[0][0]>>4 == 6 {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, p := range packets {
			if err := unix.Sendto(fd, p, 0, destination(p)); err != nil {
				return err
			}
		}
		return nil
	}))
}

func destination(packet []byte) unix.Sockaddr {
	if packet[0]>>4 == 6 {
		return &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])}
	}
	return &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
}

func port(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
