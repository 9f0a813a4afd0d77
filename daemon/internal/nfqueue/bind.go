// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
)

// bindSequence is the number of the message to which awaitReply finds the reply.
// All other messages have none.
const bindSequence = 1

// Bind makes packets come. It returns [ErrInUse] where another socket has the
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
	q.mu.Lock()
	defer q.mu.Unlock()
	msg := appendBind(nil, bindSequence, &q.config)
	if err := q.send("send queue configuration", msg); err != nil {
		return err
	}
	return q.control(q.awaitReply)
}

// awaitReply reads the reply, which the kernel has put into the socket while it
// took the message, and keeps the packets that came before it.
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
			if binary.NativeEndian.Uint32(buf[8:]) == bindSequence {
				return nlsock.Errno(buf[nlHeaderLen:n])
			}
		case msgPacket:
			q.early = append(q.early, append([]byte(nil), buf[:n]...))
		}
	}
}

// takeEarly returns the packets that arrived before the reply to Bind, once.
func (q *Queue) takeEarly() [][]byte {
	early := q.early
	q.early = nil
	return early
}

// Rebind binds the queue again while a reader is on it. It returns [ErrInUse] where
// another socket has the queue. Packets that are deferred are answered before: a
// queue that is new counts its packets from 1 again.
func (q *Queue) Rebind(at netns.Place) error {
	q.deferred().answerAll()
	if err := q.sendBind(); err != nil {
		return err
	}
	stats, err := Stats(at)
	if err != nil {
		return err
	}
	port, err := nlsock.PortID(q.file)
	if err != nil {
		return err
	}
	for _, s := range stats {
		switch {
		case s.Number != q.config.Number:
		case s.PortID == port:
			return nil
		default:
			return fmt.Errorf("bind queue %d: %w (port %d)", s.Number, ErrInUse, s.PortID)
		}
	}
	return fmt.Errorf("bind queue %d: the kernel refuses it", q.config.Number)
}

// sendBind binds the queue. The reader, which gets the reply, takes no notice of it.
func (q *Queue) sendBind() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.send("send queue configuration", appendBind(nil, 0, &q.config))
}

// Unbind destroys the queue in the kernel while the socket stays open, for
// sockets that another process holds too. Packets that wait are dropped.
func (q *Queue) Unbind() error {
	return q.send("unbind queue", appendUnbind(nil, q.config.Number))
}
