// SPDX-License-Identifier: Apache-2.0

package nfqueue

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nlsock"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// Copy is a copy of the socket by which another program reads a queue. It keeps the
// queue when that program dies. Nothing is ever read from it. Its methods may be called
// by any goroutine.
type Copy struct {
	file   *os.File
	number uint16
	port   uint32
}

// NewCopy takes over the socket of another program that has bound a queue. After an
// error the file is still the caller's.
func NewCopy(socket *os.File, number uint16) (*Copy, error) {
	port, err := nlsock.PortID(socket)
	if err != nil {
		return nil, err
	}
	return &Copy{file: socket, number: number, port: port}, nil
}

// OpenCopy opens a socket in a netns by which another program is to bind a queue. The
// socket has its port already, and receives from the kernel alone.
func OpenCopy(in nlsock.Opener, number uint16) (*Copy, error) {
	fd, err := in.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "queue of a program")
	err = nlsock.Connect(file)
	var c *Copy
	if err == nil {
		c, err = NewCopy(file, number)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return c, nil
}

// Duplicate returns another copy of the same socket.
func (c *Copy) Duplicate() (*Copy, error) {
	file, err := fdcontrol.Duplicate(c.file, c.file.Name())
	if err != nil {
		return nil, err
	}
	return &Copy{file, c.number, c.port}, nil
}

// Number is the queue's.
func (c *Copy) Number() uint16 { return c.number }

// File returns the socket; it stays the copy's.
func (c *Copy) File() *os.File { return c.file }

// SameSocket reports whether another copy is one of the same socket.
func (c *Copy) SameSocket(other *Copy) bool { return c.port == other.port }

// Holds reports whether the socket is the one that has bound a queue.
func (c *Copy) Holds(s *Stat) bool { return s.PortID == c.port }

// Stat returns what the kernel says of the queue; ok is false where the socket does not
// hold it.
func (c *Copy) Stat(at netns.Place) (s Stat, ok bool, err error) {
	stats, err := Stats(at)
	if err != nil {
		return Stat{}, false, err
	}
	s, ok = c.StatIn(stats)
	return s, ok, nil
}

// StatIn finds what Stat returns among the stats of all queues of the netns.
func (c *Copy) StatIn(stats []Stat) (s Stat, ok bool) {
	for _, s := range stats {
		if s.Number == c.number && s.PortID == c.port {
			return s, true
		}
	}
	return Stat{}, false
}

// Room gives the queue room for more packets than programs ask for, and has the socket
// refuse none because its program was slow for a moment: most programs end when reading
// fails. Packets that find no room are accepted with failOpen.
func (c *Copy) Room(length uint32, receiveBuffer int, failOpen bool) error {
	err := fdcontrol.Do(c.file, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
		if err != nil {
			return os.NewSyscallError("setsockopt NETLINK_NO_ENOBUFS", err)
		}
		have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil || have >= receiveBuffer {
			return os.NewSyscallError("getsockopt SO_RCVBUF", err)
		}
		return setReceiveBuffer(fd, receiveBuffer)
	})
	return errors.Join(err, c.send("send queue length",
		appendRoom(nil, c.number, length, failOpen)))
}

// answerTick is how often AnswerAll looks again.
const answerTick = time.Millisecond

// AnswerAll gives all packets that wait the same verdict, and returns how many they
// were. Nothing may be sent to the queue any more; what is on its way there has until
// the deadline to arrive.
func (c *Copy) AnswerAll(at netns.Place, accept bool, deadline time.Time) (int, error) {
	tick := time.NewTicker(answerTick)
	defer tick.Stop()
	answered := 0
	for ; ; <-tick.C {
		stat, bound, err := c.Stat(at)
		if err != nil || !bound || stat.Waiting == 0 {
			return answered, err
		}
		if time.Now().After(deadline) {
			return answered, fmt.Errorf("%d packets still wait in queue %d", stat.Waiting, c.number)
		}
		answered += int(stat.Waiting)
		err = c.send("send batch verdict", allVerdict(c.number, stat.Sequence, accept))
		if err != nil {
			return answered, err
		}
	}
}

// AwaitEmpty returns when no packet waits, or at the deadline.
func (c *Copy) AwaitEmpty(at netns.Place, deadline time.Time) error {
	tick := time.NewTicker(answerTick)
	defer tick.Stop()
	for ; ; <-tick.C {
		stat, bound, err := c.Stat(at)
		if err != nil || !bound || stat.Waiting == 0 || time.Now().After(deadline) {
			return err
		}
	}
}

// Unbind destroys the queue, also where its program lives. Packets that wait are dropped.
func (c *Copy) Unbind() error { return c.send("unbind queue", appendUnbind(nil, c.number)) }

// Close closes the copy. The queue lives as long as another process has its socket.
func (c *Copy) Close() error { return c.file.Close() }

// send gives the kernel a message. The program may not have connected the socket.
func (c *Copy) send(what string, msg []byte) error {
	return fdcontrol.Do(c.file, func(fd int) error {
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		for {
			err := unix.Sendto(fd, msg, unix.MSG_DONTWAIT, kernel)
			if !errors.Is(err, unix.EINTR) {
				return os.NewSyscallError(what, err)
			}
		}
	})
}
