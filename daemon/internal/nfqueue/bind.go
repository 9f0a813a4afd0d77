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

// takeEarly returns the packets that arrived before the reply to Bind, once.
func (q *Queue) takeEarly() [][]byte {
	early := q.early
	q.early = nil
	return early
}

// Rebind binds the queue again while a reader is on it, who gets the replies.
// It returns [ErrInUse] where somebody else has the queue.
func (q *Queue) Rebind(at netns.Place) error {
	msg := appendBind(nil, 0, &q.config)
	err := q.control(func(fd int) error {
		return os.NewSyscallError("send queue configuration", sendToKernel(fd, msg))
	})
	if err != nil {
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

// Unbind destroys the queue in the kernel while the socket stays open, for
// sockets that another process holds too. Packets that wait are dropped.
func (q *Queue) Unbind() error {
	msg := appendUnbind(nil, q.config.Number)
	return q.control(func(fd int) error {
		return os.NewSyscallError("unbind queue", sendToKernel(fd, msg))
	})
}
