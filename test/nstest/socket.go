// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout only bounds what hangs; everything here is on one machine.
const dialTimeout = time.Minute

// SocketOption changes a socket before it is bound or connected.
type SocketOption func(fd int) error

// Mark sets the packet mark of everything that the socket sends (SO_MARK).
func Mark(mark uint32) SocketOption {
	return func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		return os.NewSyscallError("setsockopt SO_MARK", err)
	}
}

// ReceiveBuffer sets the size of the socket's receive buffer.
func ReceiveBuffer(size int) SocketOption {
	return func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		if err != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
		return os.NewSyscallError("setsockopt SO_RCVBUF", err)
	}
}

// ListenUDP returns a UDP socket of the netns, usable from anywhere until the
// test ends. The address is host:port with a literal IP.
func (ns *NetNS) ListenUDP(tb testing.TB, addr string, opts ...SocketOption) *net.UDPConn {
	tb.Helper()
	lc := net.ListenConfig{Control: control(opts)}
	c := open(tb, ns, func(ctx context.Context) (net.PacketConn, error) {
		return lc.ListenPacket(ctx, "udp", addr)
	})
	return c.(*net.UDPConn)
}

// DialUDP returns a connected UDP socket of the netns, see [NetNS.ListenUDP].
func (ns *NetNS) DialUDP(tb testing.TB, addr string, opts ...SocketOption) *net.UDPConn {
	tb.Helper()
	d := net.Dialer{Control: control(opts)}
	c := open(tb, ns, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "udp", addr)
	})
	return c.(*net.UDPConn)
}

// Listens reports whether a server listens on a TCP port of the netns. It neither
// connects, which a server may take for its client, nor takes the port for a moment,
// in which a server would not get it.
func (ns *NetNS) Listens(port uint16) bool {
	found := false
	err := ns.Try(func() error {
		for _, file := range []string{"tcp", "tcp6"} {
			sockets, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			found = found || hasListener(string(sockets), port)
		}
		return nil
	})
	return err == nil && found
}

// hasListener looks for a socket in state LISTEN in the kernel's list.
func hasListener(sockets string, port uint16) bool {
	const listen = "0A"
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(sockets) {
		f := strings.Fields(line) // number, local address, remote address, state
		if len(f) > 3 && f[3] == listen && strings.HasSuffix(f[1], local) {
			return true
		}
	}
	return false
}

// ListenTCP returns a TCP listener of the netns, see [NetNS.ListenUDP].
func (ns *NetNS) ListenTCP(tb testing.TB, addr string, opts ...SocketOption) *net.TCPListener {
	tb.Helper()
	lc := net.ListenConfig{Control: control(opts)}
	l := open(tb, ns, func(ctx context.Context) (net.Listener, error) {
		return lc.Listen(ctx, "tcp", addr)
	})
	return l.(*net.TCPListener)
}

// DialTCP returns a TCP connection from the netns, see [NetNS.ListenUDP].
func (ns *NetNS) DialTCP(tb testing.TB, addr string, opts ...SocketOption) *net.TCPConn {
	tb.Helper()
	d := net.Dialer{Control: control(opts), FallbackDelay: -1}
	c := open(tb, ns, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	})
	return c.(*net.TCPConn)
}

// open calls the opener in the netns and closes its result when the test ends.
func open[T interface{ Close() error }](
	tb testing.TB, ns *NetNS, opener func(context.Context) (T, error),
) T {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patient(dialTimeout))
	defer cancel()
	var s T
	err := ns.Try(func() (err error) {
		s, err = opener(ctx)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func control(opts []SocketOption) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var optErr error
		err := c.Control(func(fd uintptr) {
			for _, opt := range opts {
				if optErr = opt(int(fd)); optErr != nil {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		return optErr
	}
}
