// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// maxRights is how many descriptors fit into one message (SCM_MAX_FD).
const maxRights = 253

// sendTimeout bounds the wait for a supervisor that does not read. An attach
// call waits for it, and the plugin waits 3 s for that. On a loaded machine
// systemd, which compares each descriptor with all that it has, took more than
// 1 s to have room for the next message.
const sendTimeout = 2 * time.Second

// notifier sends messages to the supervisor's socket. It holds its own one
// open, so that a daemon out of descriptors can still tell that it is alive.
// A nil notifier sends nothing. It is not for concurrent use.
type notifier struct {
	address net.UnixAddr
	conn    *net.UnixConn
	timeout time.Duration
}

// dial connects to a path, or to an abstract address that begins with @.
func dial(address string) (*notifier, error) {
	if !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "@") {
		return nil, fmt.Errorf("%s is %.108q: want a path or an abstract address",
			EnvNotifySocket, address)
	}
	n := &notifier{
		address: net.UnixAddr{Name: address, Net: "unixgram"}, timeout: sendTimeout,
	}
	if err := n.connect(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *notifier) connect() error {
	conn, err := net.DialUnix("unixgram", nil, &n.address)
	if err != nil {
		return err
	}
	n.conn = conn
	return nil
}

func (n *notifier) close() {
	if n != nil {
		_ = n.conn.Close()
	}
}

// send returns once the message and the descriptors are in the supervisor's
// socket. A supervisor that has opened its socket again is found again.
func (n *notifier) send(message string, files []*os.File) error {
	if n == nil {
		return nil
	}
	err := n.sendOnce(message, files)
	if !lostPeer(err) {
		return err
	}
	_ = n.conn.Close()
	if err := n.connect(); err != nil {
		return err
	}
	return n.sendOnce(message, files)
}

// lostPeer reports whether a send failed because the supervisor has closed the other
// end, or had when it was last looked for.
func lostPeer(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) ||
		errors.Is(err, unix.ENOTCONN) || errors.Is(err, net.ErrClosed)
}

func (n *notifier) sendOnce(message string, files []*os.File) error {
	if err := n.conn.SetWriteDeadline(time.Now().Add(n.timeout)); err != nil {
		return err
	}
	return withDescriptors(files, make([]int, 0, len(files)), func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		return n.write([]byte(message), rights)
	})
}

// write waits until the deadline for room in the supervisor's socket.
// WriteMsgUnix is not for connected sockets of this type.
func (n *notifier) write(message, rights []byte) error {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	if err := raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendmsg(int(fd), message, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sendErr, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("sendmsg", sendErr)
}

// withDescriptors calls fn with the descriptors of all files, which stay open
// meanwhile.
func withDescriptors(files []*os.File, fds []int, fn func([]int) error) error {
	if len(files) == 0 {
		return fn(fds)
	}
	return fdcontrol.Do(files[0], func(fd int) error {
		return withDescriptors(files[1:], append(fds, fd), fn)
	})
}
