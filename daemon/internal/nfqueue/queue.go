// SPDX-License-Identifier: Apache-2.0

// Package nfqueue owns NFQUEUE sockets: it binds them, reads packets from them
// and answers with verdicts. It speaks netlink itself, because at the rates that
// matter every system call and every allocation per packet counts.
//
// Which goroutine owns what: the goroutine in [Poller.Run] owns the poller's
// waiter, its list of readers that are served by the clock, and their coalescers.
// It alone receives from the readers' sockets, into a batch that is its own. A
// reader's session is its right to answer what the inspector has. When an
// inspector overruns its time, [Poller.Supersede] hands everything over but the
// batch: it replaces the reader's session, under the reader's mutex. The
// goroutine that comes back from the inspector looks under this mutex whether its
// session is still the reader's. If not, it answers nothing, touches nothing of
// the poller, and leaves Run with [ErrSuperseded]. The caller of Supersede starts
// the next Run, in a goroutine that owns all the rest from then on. Which readers
// a poller has is under the poller's mutex, because any goroutine may add one or
// close its queue.
package nfqueue

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	gonfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// ErrInUse is in the chain of Bind's error when another socket holds the
// queue's number.
var ErrInUse = errors.New("another program holds this queue number in the netns")

// Queue is an NFQUEUE socket. Bind, AnswerOrphans and [NewReader] read from it, and
// so does the goroutine that serves the reader: they run one after the other, in
// this order, and there is one reader for each queue. All other methods may be
// called at any time by any goroutine, also beside these. After Close, all methods
// that need the socket return an error.
type Queue struct {
	file *os.File
	// early are the packets that arrived before the reply to Bind, until a reader
	// has them.
	early  [][]byte
	closed atomic.Bool // set under mu

	// config.FailOpen, CopyRange and SocketUID are guarded by mu; the other settings never
	// change.
	// Messages that carry them are sent under mu, so that the kernel knows the newest.
	mu     sync.Mutex
	config Config
	// removeReader takes the reader from its poller; nil without one.
	removeReader func()
	// deferrals are the reader's, nil for none.
	deferrals *deferrals
}

// Open opens a queue socket in the netns. No packet reaches it before Bind.
func Open(ns *netns.NetNS, c Config) (*Queue, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// The library could enter the netns itself, but not with netns' care for
	// the threads that it does so on.
	var lib *gonfqueue.Nfqueue
	err := ns.Do(func() error {
		var err error
		lib, err = gonfqueue.Open(&gonfqueue.Config{NfQueue: c.Number})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open queue socket: %w", err)
	}
	q, err := newQueue(lib.Con, c)
	if err := errors.Join(err, lib.Con.Close()); err != nil {
		return nil, err
	}
	return q, nil
}

// newQueue makes a queue of a duplicate of the socket.
func newQueue(socket syscall.Conn, c Config) (*Queue, error) {
	file, err := duplicate(socket)
	if err != nil {
		return nil, err
	}
	q := &Queue{file: file, config: c}
	if err := q.tune(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return q, nil
}

// duplicate returns a file of the runtime's that is blocking. All our calls say
// themselves that they do not wait; the runtime's poller leaves such a file alone,
// and its Close does not wait for calls that use it.
func duplicate(socket syscall.Conn) (*os.File, error) {
	err := fdcontrol.Do(socket, func(fd int) error {
		return os.NewSyscallError("fcntl O_NONBLOCK", unix.SetNonblock(fd, false))
	})
	if err != nil {
		return nil, err
	}
	return fdcontrol.Duplicate(socket, "nfqueue")
}

// tune makes the socket the kernel's alone, and a full buffer lose nothing but
// what does not fit. A process in the netns could send to our port else; what
// came before is told from the kernel's by awaitReply. With ENOBUFS reports on,
// the kernel refuses every packet until the buffer is drained.
func (q *Queue) tune() error {
	if err := nlsock.Connect(q.file); err != nil {
		return err
	}
	return q.control(func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
		if err != nil {
			return os.NewSyscallError("setsockopt NETLINK_NO_ENOBUFS", err)
		}
		return setReceiveBuffer(fd, q.config.ReceiveBuffer)
	})
}

// AnswerAll gives every packet that waits in the queue the same verdict,
// including those that a reader has read and not answered. Those that are accepted lose their
// priority: a verdict must carry no request that a pod has put there.
func (q *Queue) AnswerAll(newest uint32, accept bool) error {
	return q.send("send batch verdict", allVerdict(q.config.Number, newest, accept))
}

// SetFailOpen switches what happens to packets while the queue is full. It asks
// for no reply, because a reader may own the receiving side; the kernel only
// refuses flags that it refused at Bind.
func (q *Queue) SetFailOpen(open bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.config.FailOpen = open
	return q.send("send queue flags", appendFlags(nil, &q.config))
}

// SetCopyRange changes how many bytes of each packet are copied from now on. Packets
// that wait stay as they were copied; none is lost. The poller of the queue's reader has
// room for as much. It asks for no reply, like SetFailOpen.
func (q *Queue) SetCopyRange(n uint32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := q.config
	next.CopyRange = n
	if err := next.Validate(); err != nil {
		return err
	}
	q.config.CopyRange = n // and nothing else, which is read without mu
	return q.send("send copy range", appendCopyRange(nil, &next))
}

// SetSocketUID changes whether the kernel tells whose socket a packet comes from, from
// now on. It asks for no reply, like SetFailOpen.
func (q *Queue) SetSocketUID(on bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.config.SocketUID = on
	return q.send("send queue flags", appendFlags(nil, &q.config))
}

// Config returns how the queue is bound.
func (q *Queue) Config() Config {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.config
}

// File returns the socket; it stays the queue's.
func (q *Queue) File() *os.File { return q.file }

// onClose has Close call remove, instead of what it was to call so far. It reports
// false where the queue is closed already.
func (q *Queue) onClose(remove func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return false
	}
	q.removeReader = remove
	return true
}

// setDeferrals has Close and Rebind answer what a reader has deferred.
func (q *Queue) setDeferrals(d *deferrals) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deferrals = d
}

func (q *Queue) deferred() *deferrals {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deferrals
}

// Close closes the queue. The reader gets no further turn; Close does not wait for
// one that it has, at whose end the socket is closed. The kernel drops the packets
// that wait in a bound queue, unless another process holds the socket too. Packets
// that are deferred get the policy's verdict before.
func (q *Queue) Close() error {
	q.deferred().end()
	q.mu.Lock()
	closed, remove := q.closed.Swap(true), q.removeReader
	q.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	if remove != nil {
		remove()
	}
	return q.file.Close()
}

func (q *Queue) control(fn func(fd int) error) error { return fdcontrol.Do(q.file, fn) }

// send gives the kernel a message. If there is a reply, the reader gets it.
func (q *Queue) send(what string, msg []byte) error {
	return q.control(func(fd int) error {
		return os.NewSyscallError(what, sendToKernel(fd, msg))
	})
}

// sendToKernel writes to a netlink socket that is connected to the kernel.
func sendToKernel(fd int, b []byte) error {
	for {
		_, err := unix.Write(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
