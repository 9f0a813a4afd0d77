// SPDX-License-Identifier: Apache-2.0

// Package nfqueue owns one NFQUEUE socket: it binds it, reads packets from it
// and answers verdicts. It speaks netlink itself, because at the rates that
// matter every system call and every allocation per packet counts.
package nfqueue

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	gonfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// ErrInUse is in the chain of Bind's error when another socket holds the
// queue's number.
var ErrInUse = errors.New("another program holds this queue number in the netns")

// Queue is an NFQUEUE socket. Only Close may be called while another method
// runs.
type Queue struct {
	file   *os.File
	config Config
	closed atomic.Bool
	seq    uint32
	// early are packets that arrived before the reply to Bind.
	early [][]byte

	mu      sync.Mutex
	closers []func() // called by Close
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
	// Our own descriptor for the library's socket, so that a socket that was
	// opened here and one that was inherited take the same path.
	file, err := duplicate(lib)
	if err := errors.Join(err, lib.Con.Close()); err != nil {
		return nil, err
	}
	q := &Queue{file: file, config: c}
	if err := q.tune(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return q, nil
}

func duplicate(lib *gonfqueue.Nfqueue) (*os.File, error) {
	raw, err := lib.Con.SyscallConn()
	if err != nil {
		return nil, err
	}
	dup := -1
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		dup, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if dupErr == nil {
			// All our calls say that they do not wait. To the runtime it is a
			// blocking descriptor, so that its poller leaves it alone.
			dupErr = unix.SetNonblock(dup, false)
		}
	})
	if err := errors.Join(err, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", dupErr)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dup), "nfqueue"), nil
}

// tune makes the socket the kernel's alone, and a full buffer lose nothing but
// what does not fit. A process in the netns could send to our port else; what
// came before is told from the kernel's by awaitReply. With ENOBUFS reports on,
// the kernel refuses every packet until the buffer is drained.
func (q *Queue) tune() error {
	return q.control(func(fd int) error {
		err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != nil {
			return os.NewSyscallError("connect", err)
		}
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
		if err != nil {
			return os.NewSyscallError("setsockopt NETLINK_NO_ENOBUFS", err)
		}
		return setReceiveBuffer(fd, q.config.ReceiveBuffer)
	})
}

// AnswerAll gives every packet that waits in the queue the same verdict,
// including those that a reader has in hand. Those that are accepted lose their
// priority: a verdict must carry no request that a pod has put there.
func (q *Queue) AnswerAll(newest uint32, accept bool) error {
	msg := appendBatchVerdict(nil, q.config.Number, newest, verdictDrop)
	if accept {
		msg = appendBatchAccept(nil, q.config.Number, newest)
	}
	return q.control(func(fd int) error {
		return os.NewSyscallError("send batch verdict", sendToKernel(fd, msg))
	})
}

// SetFailOpen switches what happens to packets while the queue is full. It asks
// for no reply, because a reader may own the receiving side; the kernel only
// refuses flags that it refused at Bind.
func (q *Queue) SetFailOpen(open bool) error {
	q.config.FailOpen = open
	msg := appendFlags(nil, &q.config)
	return q.control(func(fd int) error {
		return os.NewSyscallError("send queue flags", sendToKernel(fd, msg))
	})
}

// Config returns how the queue is bound.
func (q *Queue) Config() Config { return q.config }

// File returns the socket; it stays the queue's.
func (q *Queue) File() *os.File { return q.file }

// onClose has Close call fn.
func (q *Queue) onClose(fn func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closers = append(q.closers, fn)
}

// Close closes the socket, once a turn that a reader has with it is over.
// Packets that wait in a bound queue are dropped by the kernel when no other
// process holds the socket.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed.Store(true)
	for _, fn := range q.closers {
		fn()
	}
	q.closers = nil
	return q.file.Close()
}

func (q *Queue) control(fn func(fd int) error) error {
	return fdcontrol.Do(q.file, fn)
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
