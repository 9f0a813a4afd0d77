// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

// newTestPoller returns a poller that is closed when the test ends.
func newTestPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := NewPoller(PollerOptions{CopyRange: 64, Coalesce: DefaultCoalesce})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// readFrom makes the reader read from a copy of fd in place of a queue's socket.
func readFrom(t *testing.T, r *Reader, fd int) {
	t.Helper()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.queue.file = os.NewFile(uintptr(dup), "wire")
	if r.raw, err = r.queue.file.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.queue.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

// wireReader returns a reader of packets that are written to a wire.
func wireReader(t *testing.T, i inspect.Inspector) (*Reader, *wire) {
	t.Helper()
	r, w := testReader(i), newWire(t)
	readFrom(t, r, w.ours)
	return r, w
}

// queuePacket puts a packet where the kernel would.
func (w *wire) queuePacket(t *testing.T) {
	t.Helper()
	if _, err := unix.Write(w.kernels, packetMessage(t)); err != nil {
		t.Fatal(err)
	}
}

// readVerdict reads one verdict as the kernel would.
func (w *wire) readVerdict(t *testing.T) {
	t.Helper()
	if verdicts, err := w.read(); len(verdicts) != 1 || err != nil {
		t.Fatalf("%d verdicts, %v", len(verdicts), err)
	}
}

// oneWait has the poller wait once, and serve what is ready.
func oneWait(t *testing.T, p *Poller) {
	t.Helper()
	b, err := newBatch(p.size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	ready, err := p.waiter.wait(p.due)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range ready {
		if _, err := p.turn(event.Fd, b); err != nil {
			t.Fatal(err)
		}
	}
}

// A reader that cannot be read stops, and is served again once it is added again.
// Its queue's Close removes it, however often it was added.
func TestStoppedReaderIsAddedAgain(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(unix.Close(pipe[0]), unix.Close(pipe[1])) }()
	if _, err := unix.Write(pipe[1], []byte("no packet")); err != nil {
		t.Fatal(err)
	}
	r, w, p := testReader(inspect.AcceptAll{}), newWire(t), newTestPoller(t)
	readFrom(t, r, pipe[0])
	for range 3 {
		if err := p.Add(r); err != nil || r.Err() != nil {
			t.Fatal(err, r.Err())
		}
		oneWait(t, p)
		if err := r.Err(); !errors.Is(err, unix.ENOTSOCK) || len(p.members) != 0 {
			t.Fatalf("%v, %d members: want %v and none", err, len(p.members), unix.ENOTSOCK)
		}
	}
	if err := r.queue.control(func(fd int) error { return unix.Dup3(w.ours, fd, unix.O_CLOEXEC) }); err != nil {
		t.Fatal(err)
	}
	if err := p.Add(r); err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	w.queuePacket(t)
	oneWait(t, p)
	w.readVerdict(t)
	if err := r.queue.Close(); err != nil || len(p.members) != 0 {
		t.Errorf("%v, %d members after Close", err, len(p.members))
	}
	if err := p.Add(r); !errors.Is(err, os.ErrClosed) || len(p.members) != 0 {
		t.Errorf("a reader of a closed queue was added: %v, %d members", err, len(p.members))
	}
}

// A reader that is revoked leaves what has come to the other process that reads the queue.
func TestRevokedReaderReadsNothing(t *testing.T) {
	r, w := wireReader(t, inspect.AcceptAll{})
	revoked := false
	r.options.Revoked = func() bool { return revoked }
	p := newTestPoller(t)
	if err := p.Add(r); err != nil {
		t.Fatal(err)
	}
	w.queuePacket(t)
	oneWait(t, p)
	w.readVerdict(t)
	revoked = true
	w.queuePacket(t)
	oneWait(t, p)
	if err := r.Err(); !errors.Is(err, ErrRevoked) || len(p.members) != 0 {
		t.Errorf("%v, %d members: want %v and none", err, len(p.members), ErrRevoked)
	}
	b := make([]byte, 1)
	if _, _, err := unix.Recvfrom(w.ours, b, unix.MSG_DONTWAIT); err != nil {
		t.Errorf("the packet was read: %v", err)
	}
}

// Packets in a socket that another process holds too wake no poller once the
// queue is closed here.
func TestClosedQueueOfCopiedSocket(t *testing.T) {
	r, w := wireReader(t, inspect.AcceptAll{}) // the wire keeps what the reader has a copy of
	p := newTestPoller(t)
	if err := p.Add(r); err != nil {
		t.Fatal(err)
	}
	w.queuePacket(t)
	if err := errors.Join(r.queue.Close(), p.Stop()); err != nil {
		t.Fatal(err)
	}
	ready, err := p.waiter.wait(0)
	if len(ready) != 1 || ready[0].Fd != 0 || err != nil {
		t.Errorf("%v, %v: want the event that ends Run alone", ready, err)
	}
}

// The goroutine that comes after a superseded one has all that was its own: it
// serves the other readers, also those that get their turns by the clock.
func TestSupersedeHandsOver(t *testing.T) {
	hangs, release := make(chan struct{}), make(chan struct{})
	slow, slowWire := wireReader(t, inspect.Func(func(*inspect.Packet) inspect.Verdict {
		hangs <- struct{}{}
		<-release
		return inspect.Verdict{Action: inspect.Drop}
	}))
	timed, timedWire := wireReader(t, inspect.AcceptAll{})
	p := newTestPoller(t)
	if err := errors.Join(p.Add(slow), p.Add(timed)); err != nil {
		t.Fatal(err)
	}
	m := p.member(2)
	m.coalescer.timed = true
	p.setTimed(m)
	p.due = p.waiter.instant()
	runs := make(chan error, 2)
	run := func() { runs <- p.Run() }
	go run()
	for range 3 {
		timedWire.queuePacket(t)
		timedWire.readVerdict(t)
	}
	slowWire.queuePacket(t)
	<-hangs
	if r, err := p.Supersede(time.Hour); r != nil || err != nil {
		t.Errorf("superseded within its budget: %v", err)
	}
	if r, err := p.Supersede(time.Nanosecond); r != slow || err != nil {
		t.Fatalf("not superseded: %v", err)
	}
	if r, err := p.Supersede(time.Nanosecond); r != nil || err != nil {
		t.Errorf("superseded twice: %v", err)
	}
	slowWire.readVerdict(t) // the policy's
	go run()
	for range 100 {
		timedWire.queuePacket(t)
		timedWire.readVerdict(t)
	}
	release <- struct{}{}
	if err := <-runs; !errors.Is(err, ErrSuperseded) {
		t.Errorf("the superseded run: %v", err)
	}
	if n := slow.Counters.Dropped.Load(); n != 0 {
		t.Errorf("%d late verdicts were given", n)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-runs; err != nil {
		t.Error(err)
	}
}

// A turn allocates nothing, from the socket to the socket.
func TestTurnDoesNotAllocate(t *testing.T) {
	r, w := wireReader(t, inspect.Func(func(p *inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Accept, Mark: p.ID << 24, MarkMask: 0xff000000}
	}))
	p := newTestPoller(t)
	p.coalesce = 0 // changing what epoll tells allocates
	if err := p.Add(r); err != nil {
		t.Fatal(err)
	}
	b, err := newBatch(p.size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	m, buf := packetMessage(t), make([]byte, 1<<16)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := unix.Write(w.kernels, m); err != nil {
			t.Fatal(err)
		}
		if _, err := p.turn(1, b); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Read(w.kernels, buf); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if got := r.Counters.Accepted.Load(); got < 1000 {
		t.Errorf("%d packets accepted, want 1,000", got)
	}
}
