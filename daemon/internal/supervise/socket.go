// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socketName is what the notification socket is called in the runtime
// directory. It has a path and no abstract address, which every process of the
// host's network could fill with messages.
const socketName = "supervise.sock"

// socket is where the daemon's notifications arrive.
type socket struct {
	fd   int
	path string
	buf  [maxMessage]byte
	oob  [4096]byte // room for 253 descriptors and the credentials
}

// listenSocket makes the socket. One that no process serves is replaced.
func listenSocket(dir string) (*socket, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd, path: filepath.Join(dir, socketName)}
	if err := s.bind(); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen at %s: %w", s.path, err)
	}
	return s, nil
}

func (s *socket) bind() error {
	// The mode comes before the name, so that it holds from the first moment.
	if err := unix.Fchmod(s.fd, 0o600); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	address := &unix.SockaddrUnix{Name: s.path}
	err := unix.Bind(s.fd, address)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := s.removeStale(address); err != nil {
			return err
		}
		err = unix.Bind(s.fd, address)
	}
	return os.NewSyscallError("bind", err)
}

// removeStale removes the socket of a supervisor that was killed.
func (s *socket) removeStale(address *unix.SockaddrUnix) error {
	probe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(probe)
	switch err := unix.Connect(probe, address); {
	case err == nil:
		return errors.New("another supervisor uses this runtime directory")
	case !errors.Is(err, unix.ECONNREFUSED):
		return os.NewSyscallError("connect", err)
	}
	return os.Remove(s.path)
}

// close also removes the path.
func (s *socket) close() {
	_ = os.Remove(s.path)
	_ = unix.Close(s.fd)
}

// datagram is a notification as it arrived.
type datagram struct {
	pid  int32
	data []byte // until the next receive
	fds  []int
	// lost: there were more descriptors than this process may open.
	lost bool
}

// receive returns the next datagram, or false if none waits.
func (s *socket) receive() (datagram, bool, error) {
	n, oobn, flags, _, err := unix.Recvmsg(s.fd, s.buf[:], s.oob[:], unix.MSG_CMSG_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return datagram{}, false, nil
	case errors.Is(err, unix.EINTR):
		return s.receive()
	case err != nil:
		return datagram{}, false, os.NewSyscallError("recvmsg", err)
	}
	d := datagram{data: s.buf[:n], lost: flags&unix.MSG_CTRUNC != 0}
	if flags&unix.MSG_TRUNC != 0 {
		d.data = nil // not to be read halfway
	}
	control, err := unix.ParseSocketControlMessage(s.oob[:oobn])
	if err != nil {
		return d, true, nil // without a sender it is ignored
	}
	for i := range control {
		if fds, err := unix.ParseUnixRights(&control[i]); err == nil {
			d.fds = append(d.fds, fds...)
		}
		if cred, err := unix.ParseUnixCredentials(&control[i]); err == nil {
			d.pid = cred.Pid
		}
	}
	return d, true, nil
}
