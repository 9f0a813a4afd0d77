// SPDX-License-Identifier: Apache-2.0

package succession

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrAgain says that nothing waits to be read, or that there is no room to write:
// poll the descriptor.
var ErrAgain = errors.New("would block")

// Conn sends and receives messages with descriptors. It never blocks, and is for
// one goroutine.
type Conn struct {
	fd  int
	buf []byte
	oob []byte
}

// NewConn takes a socket over, which is of the kind SOCK_SEQPACKET and does not
// block.
func NewConn(fd int) *Conn {
	return &Conn{
		fd: fd, buf: make([]byte, maxMessage), oob: make([]byte, unix.CmsgSpace(4*MaxRights)),
	}
}

// Pair returns two ends that are connected with each other.
func Pair() (a, b *Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX,
		unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return NewConn(fds[0]), NewConn(fds[1]), nil
}

// FD returns the descriptor to poll.
func (c *Conn) FD() int { return c.fd }

// Close ends the connection: the other side reads io.EOF after what was sent.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

// Send sends a message and copies of the descriptors, or returns ErrAgain.
func (c *Conn) Send(m *Message, fds ...int) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		switch err := unix.Sendmsg(c.fd, b, rights, nil, unix.MSG_NOSIGNAL); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ETOOMANYREFS),
			errors.Is(err, unix.ENOBUFS):
			// The second of them: too many descriptors of this user are on their way.
			return ErrAgain
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// Receive returns the next message with its descriptors, which are the caller's.
// It returns ErrAgain where none waits, and io.EOF after the last one.
func (c *Conn) Receive() (Message, []int, error) {
	n, oobn, flags, _, err := unix.Recvmsg(c.fd, c.buf, c.oob, unix.MSG_CMSG_CLOEXEC)
	switch {
	case errors.Is(err, unix.EINTR):
		return c.Receive()
	case errors.Is(err, unix.EAGAIN):
		return Message{}, nil, ErrAgain
	case errors.Is(err, unix.ECONNRESET):
		return Message{}, nil, io.EOF
	case err != nil:
		return Message{}, nil, os.NewSyscallError("recvmsg", err)
	case n == 0:
		return Message{}, nil, io.EOF
	}
	fds, err := parseRights(c.oob[:oobn])
	if err == nil {
		err = checkFlags(flags)
	}
	var m Message
	if err == nil {
		m, err = decode(c.buf[:n], len(fds))
	}
	if err != nil {
		CloseAll(fds)
		return Message{}, nil, err
	}
	return m, fds, nil
}

func checkFlags(flags int) error {
	if flags&unix.MSG_TRUNC != 0 {
		return fmt.Errorf("message of more than %d bytes", maxMessage)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return errors.New("descriptors lost at the limit of open files: raise it " +
			"(LimitNOFILE=, ulimit -n)")
	}
	return nil
}

func parseRights(oob []byte) ([]int, error) {
	control, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, os.NewSyscallError("parse control message", err)
	}
	var all []int
	for i := range control {
		if fds, err := unix.ParseUnixRights(&control[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
