// SPDX-License-Identifier: Apache-2.0

// Package nfqueue owns one NFQUEUE socket: it binds it, reads packets from it
// and answers verdicts. It speaks netlink itself, because at the rates that
// matter every system call and every allocation per packet counts.
package nfqueue

import (
	"encoding/binary"
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

// Defaults of a queue.
const (
	DefaultNumber = 80
	// DefaultLength is how many packets may wait, the kernel's default is 1024.
	DefaultLength = 4096
	// MaxLength is where the kernel's table of waiting packets ends
	// (NFQNL_HASH_MAX in nfnetlink_queue.c).
	MaxLength = 65536
	// DefaultReceiveBuffer holds 3,640 packets of 1,400 bytes, at the
	// 2,304 bytes each of them is charged.
	DefaultReceiveBuffer = 8 << 20
	// MinReceiveBuffer holds a merged packet.
	MinReceiveBuffer = 1 << 16
	// MaxCopyRange is the most that the kernel copies of a packet.
	MaxCopyRange = 0xffff - attrLen
)

// Config is how a queue is bound.
type Config struct {
	// Number of the queue in its netns.
	Number uint16
	// Length is how many packets may wait for a verdict.
	Length uint32
	// CopyRange is how many bytes of each packet are copied.
	CopyRange uint32
	// ReceiveBuffer of the socket in bytes, as the kernel charges them.
	ReceiveBuffer int
	// Modifies is for an inspector that replaces packets: they come unmerged.
	Modifies bool
	// FailOpen accepts packets while the queue is full, instead of dropping.
	FailOpen bool
}

// Validate reports the first setting that the kernel would not honour.
func (c *Config) Validate() error {
	switch {
	case c.Length == 0 || c.Length > MaxLength:
		return fmt.Errorf("queue length %d: want 1 to %d", c.Length, MaxLength)
	case c.CopyRange == 0 || c.CopyRange > MaxCopyRange:
		return fmt.Errorf("copy range %d: want 1 to %d", c.CopyRange, MaxCopyRange)
	case c.ReceiveBuffer < MinReceiveBuffer:
		return fmt.Errorf("receive buffer %d: want at least %d", c.ReceiveBuffer,
			MinReceiveBuffer)
	}
	return nil
}

func (c *Config) knownFlags() uint32 {
	return gonfqueue.NfQaCfgFlagFailOpen | gonfqueue.NfQaCfgFlagGSO
}

func (c *Config) flags() uint32 {
	var flags uint32
	if !c.Modifies {
		flags |= gonfqueue.NfQaCfgFlagGSO
	}
	if c.FailOpen {
		flags |= gonfqueue.NfQaCfgFlagFailOpen
	}
	return flags
}

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

// SetReceiveBuffer changes the size of the socket's receive buffer. What waits
// in it stays there.
func (q *Queue) SetReceiveBuffer(size int) error {
	return q.control(func(fd int) error { return setReceiveBuffer(fd, size) })
}

// setReceiveBuffer halves the size, because the kernel doubles it.
func setReceiveBuffer(fd, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2)
	if errors.Is(err, unix.EPERM) { // in a user namespace: up to rmem_max
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size/2)
	}
	return os.NewSyscallError("setsockopt SO_RCVBUF", err)
}

// GrantedBuffer returns what the kernel grants of a receive buffer, in any netns:
// the limit for those without CAP_NET_ADMIN is the node's net.core.rmem_max.
func GrantedBuffer(size int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC,
		unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := setReceiveBuffer(fd, size); err != nil {
		return 0, err
	}
	granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return granted, os.NewSyscallError("getsockopt SO_RCVBUF", err)
}

// Bind makes packets come. It returns [ErrInUse] where somebody else has the
// queue.
func (q *Queue) Bind() error {
	err := q.bind()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("bind queue %d: %w", q.config.Number, errors.Join(ErrInUse, err))
	}
	if err != nil {
		return fmt.Errorf("bind queue %d: %w", q.config.Number, err)
	}
	return nil
}

func (q *Queue) bind() error {
	q.seq++
	msg := appendBind(nil, q.seq, &q.config)
	return q.control(func(fd int) error {
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		if err := unix.Sendto(fd, msg, 0, kernel); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		return q.awaitReply(fd)
	})
}

// awaitReply reads the reply, which the kernel has put into the socket before
// sendto returned, and keeps the packets that came before it.
func (q *Queue) awaitReply(fd int) error {
	buf := make([]byte, messageSize(q.config.CopyRange))
	for {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return os.NewSyscallError("read configuration reply", err)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 || n < nlHeaderLen {
			continue
		}
		switch binary.NativeEndian.Uint16(buf[4:]) {
		case unix.NLMSG_ERROR:
			if binary.NativeEndian.Uint32(buf[8:]) != q.seq || n < nlHeaderLen+4 {
				continue
			}
			return errnoOf(buf[nlHeaderLen:])
		case msgPacket:
			q.early = append(q.early, append([]byte(nil), buf[:n]...))
		}
	}
}

// errnoOf returns the error in an NLMSG_ERROR's payload, nil where it is 0.
func errnoOf(payload []byte) error {
	if code := int32(binary.NativeEndian.Uint32(payload)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
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

// takeEarly returns the packets that arrived before the reply to Bind, once.
func (q *Queue) takeEarly() [][]byte {
	early := q.early
	q.early = nil
	return early
}

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
