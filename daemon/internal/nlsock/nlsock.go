// SPDX-License-Identifier: Apache-2.0

// Package nlsock owns netlink sockets by which the kernel is asked: it opens them in
// a network namespace, encodes and decodes messages, and exchanges them.
//
// What the kernel sends in answer to a request is in the socket when the request has
// been sent, and the next part of a list when the last one has been read. So nothing
// here waits, and nothing needs Go's poller.
package nlsock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// Opener opens close-on-exec sockets inside a network namespace.
type Opener interface {
	Socket(domain, typ, protocol int) (int, error)
}

// Socket is a netlink socket that receives from the kernel alone. It must not be used
// concurrently.
type Socket struct {
	file     *os.File
	buffers  *Buffers
	sequence uint32
	deadline time.Time
}

// Open opens a socket of a netlink protocol. It borrows what it receives into from b;
// without b, each exchange makes a buffer of its own.
func Open(in Opener, protocol int, b *Buffers) (*Socket, error) {
	fd, err := in.Socket(unix.AF_NETLINK, unix.SOCK_RAW, protocol)
	if err != nil {
		return nil, err
	}
	return take(os.NewFile(uintptr(fd), "netlink"), b)
}

// OpenInherited goes on with the socket of a predecessor, whose port it keeps. It
// fails where the file is no socket of the protocol in the network namespace with
// the cookie. The file is the socket's, and closed where it fails.
func OpenInherited(file *os.File, protocol int, cookie uint64, b *Buffers) (*Socket, error) {
	err := fdcontrol.Do(file, func(fd int) error { return check(fd, protocol, cookie) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over %s: %w", file.Name(), err), file.Close())
	}
	return take(file, b)
}

// check reports a descriptor that is not the socket that it should be.
func check(fd, protocol int, cookie uint64) error {
	for _, o := range []struct {
		name         string
		option, want int
	}{
		{"domain", unix.SO_DOMAIN, unix.AF_NETLINK}, {"protocol", unix.SO_PROTOCOL, protocol},
	} {
		have, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.option)
		if err != nil {
			return os.NewSyscallError("getsockopt socket "+o.name, err)
		}
		if have != o.want {
			return fmt.Errorf("socket %s is %d, want %d", o.name, have, o.want)
		}
	}
	have, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
	}
	if have != cookie {
		return fmt.Errorf("socket of netns %d, want %d", have, cookie)
	}
	return nil
}

// take connects the socket and reads what a predecessor has not, whose answers have
// other sequence numbers. That also ends a list that the kernel had begun: until then
// it would begin no other.
func take(file *os.File, b *Buffers) (*Socket, error) {
	s := &Socket{file: file, buffers: b, sequence: rand.Uint32()}
	err := Connect(file)
	if err == nil {
		err = s.drain()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Connect makes a netlink socket, which gets a port by it, receive from the kernel
// alone: any process with CAP_NET_ADMIN in its network namespace can send to others.
func Connect(c syscall.Conn) error {
	return fdcontrol.Do(c, func(fd int) error {
		kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
		return os.NewSyscallError("connect netlink socket", unix.Connect(fd, kernel))
	})
}

// PortID returns a socket's netlink address, by which the kernel knows it.
func PortID(c syscall.Conn) (uint32, error) {
	var port uint32
	err := fdcontrol.Do(c, func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		if nl, ok := sa.(*unix.SockaddrNetlink); ok {
			port = nl.Pid
		}
		return nil
	})
	return port, err
}

// File returns the descriptor; it stays the socket's.
func (s *Socket) File() *os.File { return s.file }

// PortID returns the socket's netlink address.
func (s *Socket) PortID() (uint32, error) { return PortID(s.file) }

// SetDeadline makes an exchange that goes on after t fail with
// [os.ErrDeadlineExceeded]. The socket can only be closed after that.
func (s *Socket) SetDeadline(t time.Time) { s.deadline = t }

// Close closes the socket.
func (s *Socket) Close() error { return s.file.Close() }
