// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
)

const (
	acceptRequest = 1<<30 | 1<<24
	dropRequest   = 1<<31 | 1<<24
)

// wire is a socket in place of the queue's: what is sent to it can be read.
type wire struct{ ours, kernels int }

func newWire(t *testing.T) *wire {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	return &wire{fds[0], fds[1]}
}

// read returns the messages of one send, each from its verdict on.
func (w *wire) read() ([][]byte, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Read(w.kernels, buf)
	var all [][]byte
	for rest := buf[:max(n, 0)]; len(rest) > verdictAt; {
		length := binary.NativeEndian.Uint32(rest)
		all = append(all, rest[verdictAt:length])
		rest = rest[align(int(length)):]
	}
	return all, os.NewSyscallError("read", err)
}

// takeAll returns all messages that were sent so far.
func (w *wire) takeAll(t *testing.T) (all []byte) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(w.kernels, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, buf[:n]...)
	}
}

// priorityOf returns the priority that a verdict of either length sets.
func priorityOf(m []byte) uint32 { return binary.BigEndian.Uint32(m[len(m)-4:]) }

// Settling goes off, or on otherwise, while the inspector has a batch. Whatever it says of
// that batch, it may have decided by what counted before.
func TestRequestsOfABatchInHand(t *testing.T) {
	for name, c := range map[string]struct {
		accept, drop uint32
		settled      uint64
	}{
		"off":                {0, 0, 0},
		"another generation": {acceptRequest + 1<<24, dropRequest + 1<<24, 0},
		"the same":           {acceptRequest, dropRequest, 5},
	} {
		var r *Reader
		seen := 0
		verdicts := []inspect.Verdict{
			{Action: inspect.Drop, Settle: true},
			{Action: inspect.Drop, Settle: true, Mark: 1 << 24, MarkMask: 1 << 24},
			{Action: inspect.Accept, Settle: true},
			{Action: inspect.Accept, Settle: true, Mark: 1 << 24, MarkMask: 1 << 24},
			{Action: inspect.Drop, Settle: true},
		}
		r = testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict {
			if seen++; seen == len(verdicts) {
				r.SetSettle(c.accept, c.drop)
			}
			return verdicts[seen-1]
		}))
		r.SetSettle(acceptRequest, dropRequest)
		w := newWire(t)
		sendBatch(t, r, w, len(verdicts))
		messages, err := w.read()
		if err != nil || len(messages) != len(verdicts) {
			t.Fatalf("%s: %d verdicts, %v", name, len(messages), err)
		}
		for i, m := range messages {
			request := priorityOf(m) & settleMask
			drops := verdicts[i].Action == inspect.Drop
			dropped := binary.BigEndian.Uint32(m) == verdictDrop || request&settleDrop != 0
			if dropped != drops || (request != 0 && request != c.accept && request != c.drop) {
				t.Errorf("%s, packet %d: verdict %d, request %#x, is to be dropped: %t",
					name, i, binary.BigEndian.Uint32(m), request, drops)
			}
		}
		if got := r.Counters.Settled.Load(); got != c.settled {
			t.Errorf("%s: %d requests counted, want %d", name, got, c.settled)
		}
	}
}

// sendBatch has n packets inspected and answered together.
func sendBatch(t *testing.T, r *Reader, w *wire, n int) {
	t.Helper()
	s, m := r.session, packetMessage(t)
	s.verdicts.reset(nil, 80)
	s.begin(m)
	for range n {
		s.handle(m)
	}
	var b batch
	if err := s.send(uintptr(w.ours), &b); err != nil {
		t.Error(err)
	}
}

// Once SetSettle has returned, no verdict asks by other bits.
func TestNoRequestAfterSetSettle(t *testing.T) {
	r := testReader(inspect.Func(func(*inspect.Packet) inspect.Verdict {
		return inspect.Verdict{Action: inspect.Drop, Settle: true}
	}))
	w := newWire(t)
	late := make(chan int)
	requested := make(chan struct{}, 1)
	go func() { late <- w.countLate(requested) }()
	var sender sync.WaitGroup
	stop := make(chan struct{})
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				sendBatch(t, r, w, 20)
			}
		}
	})
	for range 300 {
		w.say(t, markOn)
		r.SetSettle(acceptRequest, dropRequest)
		<-requested
		r.SetSettle(0, 0)
		w.say(t, markOff)
	}
	close(stop)
	sender.Wait()
	w.say(t, markEnd)
	if n := <-late; n > 0 {
		t.Errorf("%d batches asked after settling went off", n)
	}
}

// Marks between the batches on the wire.
const (
	markOn = iota
	markOff
	markEnd
)

func (w *wire) say(t *testing.T, mark byte) {
	t.Helper()
	if _, err := unix.Write(w.ours, []byte{mark}); err != nil {
		t.Error(err)
	}
}

// countLate returns how many batches behind a mark that says off ask for
// something. It tells of one with a request behind each mark that says on.
func (w *wire) countLate(requested chan<- struct{}) (late int) {
	buf := make([]byte, 1<<16)
	on, told := false, false
	for {
		n, err := unix.Read(w.kernels, buf)
		switch {
		case err != nil || (n == 1 && buf[0] == markEnd):
			return late
		case n == 1:
			on, told = buf[0] == markOn, false
			continue
		}
		asks := false
		for rest := buf[:n]; len(rest) > 0; rest = rest[align(int(binary.NativeEndian.Uint32(rest))):] {
			m := rest[:binary.NativeEndian.Uint32(rest)]
			asks = asks || (len(m) >= verdictLen-8 && priorityOf(m)&settleMask != 0)
		}
		switch {
		case asks && !on:
			late++
		case asks && !told:
			told = true
			requested <- struct{}{}
		}
	}
}
