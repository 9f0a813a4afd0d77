// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// hangs is after how long a test is taken to hang.
const hangs = time.Minute

// kernel keeps packets as a queue does.
type kernel struct {
	mu       sync.Mutex
	tickets  uint64
	limit    int // of packets that are deferred at a time
	waiting  map[uint64]bool
	verdicts []inspect.Verdict // in the order of releases
	paused   bool
	changed  *sync.Cond
}

func newKernel() *kernel {
	k := &kernel{waiting: make(map[uint64]bool), limit: 1024}
	k.changed = sync.NewCond(&k.mu)
	return k
}

func (k *kernel) Defer(*inspect.Packet, time.Duration) (inspect.Deferred, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) >= k.limit {
		return inspect.Deferred{}, false
	}
	k.tickets++
	k.waiting[k.tickets] = true
	return inspect.NewDeferred(k, k.tickets), true
}

func (k *kernel) Release(ticket uint64, v inspect.Verdict) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.waiting[ticket] {
		return false
	}
	delete(k.waiting, ticket)
	k.verdicts = append(k.verdicts, v)
	k.changed.Broadcast()
	return true
}

func (k *kernel) ReleaseAll(held []inspect.Deferred, verdicts []inspect.Verdict) (n int) {
	for i, d := range held {
		if k.Release(d.Ticket(), verdicts[i]) {
			n++
		}
	}
	return n
}

func (k *kernel) Pause()  { k.setPaused(true) }
func (k *kernel) Resume() { k.setPaused(false) }

func (k *kernel) setPaused(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paused = on
	k.changed.Broadcast()
}

// await returns the verdicts when there are n.
func (k *kernel) await(t *testing.T, n int) []inspect.Verdict {
	t.Helper()
	timer := time.AfterFunc(hangs, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.limit = -1
		k.changed.Broadcast()
	})
	defer timer.Stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.verdicts) < n && k.limit >= 0 {
		k.changed.Wait()
	}
	if len(k.verdicts) < n {
		t.Fatalf("%d verdicts, want %d", len(k.verdicts), n)
	}
	return append([]inspect.Verdict{}, k.verdicts...)
}

// bed is a server with its kernel.
type bed struct {
	t *testing.T
	*Server
	kernel *kernel
	pod    *inspect.Attachment
	events chan string
	stop   func()
}

func newBed(t *testing.T, c Config, set ...func(*Server)) *bed {
	t.Helper()
	c.Name, c.Socket = "ids", filepath.Join(t.TempDir(), "d", "ids.sock")
	c.UID, c.GID, c.MarkMask = -1, -1, 0xff000000
	if c.Budget == 0 {
		c.Budget = hangs
	}
	b := &bed{
		t: t, Server: New(c), kernel: newKernel(), events: make(chan string, 1000),
		pod: &inspect.Attachment{ContainerID: "c1", Ifname: "eth0", PodName: "p"},
	}
	b.Report = func(_ slog.Level, message string) { b.events <- message }
	b.Attached(b.pod, true)
	for _, f := range set {
		f(b.Server)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx)
	}()
	b.stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(hangs):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(b.stop)
	return b
}

// packets have these IDs.
func (b *bed) packets(from, n uint32) []*inspect.Packet {
	list := make([]*inspect.Packet, n)
	for i := range list {
		id := from + uint32(i)
		payload := []byte{
			0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
			0x80, 1, 0, 53, 0, 12, 0, 0, 0, 0, 0, 0,
		}
		binary.BigEndian.PutUint32(payload[28:], id)
		list[i] = &inspect.Packet{
			ID: id, Payload: payload, Length: len(payload), Attachment: b.pod, Deferrer: b.kernel,
			Direction: inspect.Out, Mark: 7,
		}
	}
	return list
}

// inspect has packets inspected that are accepted so far.
func (b *bed) inspect(packets []*inspect.Packet) []inspect.Verdict {
	verdicts := make([]inspect.Verdict, len(packets))
	for i := range verdicts {
		verdicts[i] = inspect.Verdict{Action: inspect.Accept, Mark: 0x01000000, MarkMask: 0x01000000}
	}
	b.InspectBatch(packets, verdicts)
	return verdicts
}

// client is an inspector.
type client struct {
	*testing.T
	conn    *net.UnixConn
	welcome proto.Welcome
	memory  []byte
}

// dial connects, and says nothing.
func (b *bed) dial() *client {
	b.t.Helper()
	var c *net.UnixConn
	nstest.Eventually(b.t, hangs, "the server listens", func() bool {
		var err error
		c, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{
			Name: b.config.Socket, Net: "unixpacket",
		})
		return err == nil
	})
	b.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(hangs))
	return &client{T: b.t, conn: c}
}

// connect is dial, and HELLO.
func (b *bed) connect(h proto.Hello) *client {
	b.t.Helper()
	c := b.dial()
	h.Version = proto.Version
	c.send(h.Append(nil))
	c.receiveWelcome()
	nstest.Eventually(b.t, hangs, "the server has a link", func() bool {
		return b.link.Load() != nil
	})
	return c
}

func (c *client) send(b []byte) {
	c.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.Fatal(err)
	}
}

func (c *client) receive() []byte {
	c.Helper()
	buf := make([]byte, proto.MaxMessage)
	n, err := c.conn.Read(buf)
	if err != nil {
		c.Fatal(err)
	}
	return buf[:n]
}

func (c *client) receiveWelcome() {
	c.Helper()
	buf, oob := make([]byte, proto.MaxMessage), make([]byte, 64)
	n, on, _, _, err := c.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		c.Fatal(err)
	}
	if c.welcome, err = proto.ParseWelcome(buf[:n]); err != nil {
		c.Fatal(err)
	}
	if on > 0 {
		messages, _ := unix.ParseSocketControlMessage(oob[:on])
		fds, _ := unix.ParseUnixRights(&messages[0])
		c.memory, err = unix.Mmap(fds[0], 0, int(c.welcome.Memory), unix.PROT_READ,
			unix.MAP_SHARED)
		if err != nil {
			c.Fatal(err)
		}
		if _, err := unix.Mmap(fds[0], 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			c.Error("the inspector can write to the memory")
		}
		_ = unix.Close(fds[0])
	}
	for range c.welcome.Attachments {
		if _, _, err := proto.ParseAttach(c.receive()); err != nil {
			c.Fatal(err)
		}
	}
}

// batch receives a BATCH.
func (c *client) batch() (proto.Batch, []byte) {
	c.Helper()
	m := c.receive()
	b, err := proto.ParseBatch(m, c.memory)
	if err != nil {
		c.Fatal(err)
	}
	if b.InMemory {
		return b, c.memory
	}
	return b, m
}

// answer gives all packets of a batch a verdict.
func (c *client) answer(b *proto.Batch, v proto.Verdict) {
	c.Helper()
	list := make([]proto.Verdict, len(b.Headers))
	for i := range list {
		list[i] = v
		list[i].ID = b.Headers[i].ID
	}
	c.send(proto.AppendVerdicts(nil, b.Sequence, list))
}

// socketPair is a connection of the kind that inspectors make, both ends.
func socketPair(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	nstest.Must(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		nstest.Must(t, errors.Join(err, f.Close()))
		t.Cleanup(func() { _ = c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}
