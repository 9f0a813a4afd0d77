// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// fdConn is a unix connection that takes the descriptors which arrive beside
// the bytes it reads (SCM_RIGHTS). At most one descriptor per connection is
// legitimate; a peer that sends more is remembered as a violator.
type fdConn struct {
	*net.UnixConn

	mu       sync.Mutex
	file     *os.File // the one descriptor, until taken
	received int
	lost     bool // the kernel could not hand one over
	closed   bool
}

// maxRights is how many descriptors the kernel passes in one message at most
// (SCM_MAX_FD). With room for all of them, none is ever dropped without a trace.
const maxRights = 253

// Read is UnixConn.Read that keeps the descriptors.
func (c *fdConn) Read(b []byte) (int, error) {
	oob := make([]byte, syscall.CmsgSpace(4*maxRights))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if oobn > 0 || flags&syscall.MSG_CTRUNC != 0 {
		c.collect(oob[:oobn], flags&syscall.MSG_CTRUNC != 0)
	}
	return n, err
}

// collect keeps the first descriptor and closes the others. The kernel marks a
// message as truncated when this process may open no more files.
func (c *fdConn) collect(oob []byte, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = c.lost || truncated
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		c.lost = true
		return
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			c.received++
			if c.received == 1 && !c.closed {
				c.file = os.NewFile(uintptr(fd), "passed descriptor")
				continue
			}
			_ = syscall.Close(fd)
		}
	}
}

// arrived returns how many descriptors have arrived, and whether any was lost.
func (c *fdConn) arrived() (n int, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received, c.lost
}

// take hands the descriptor over to the caller, who closes it; nil if none.
func (c *fdConn) take() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.file
	c.file = nil
	return f
}

// Close closes the connection and a descriptor that was not taken.
func (c *fdConn) Close() error {
	err := c.UnixConn.Close()
	c.mu.Lock()
	c.closed = true // a read that is still in progress keeps nothing any more
	c.mu.Unlock()
	if f := c.take(); f != nil {
		err = errors.Join(err, f.Close())
	}
	return err
}

// gone reports whether the peer has closed its end.
func (c *fdConn) gone() bool { return fdcontrol.HungUp(c) }

// Abandoned reports whether the client of the call has hung up. The call's
// context tells that too, but later: this is exact, so that a backend which asks
// before it acts never acts on a call that its client has given up, followed
// perhaps by another one. Other contexts than those of calls are never abandoned.
func Abandoned(ctx context.Context) bool {
	c := fdConnOf(ctx)
	return c != nil && c.gone()
}

// boundedListener accepts as many connections as there may be.
type boundedListener struct {
	net.Listener
	conns *connLimit

	closed    chan struct{}
	closeOnce sync.Once
}

func newBoundedListener(l net.Listener, conns *connLimit) *boundedListener {
	return &boundedListener{Listener: l, conns: conns, closed: make(chan struct{})}
}

// Close ends the listener and an Accept that waits for room.
func (l *boundedListener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Accept returns the next connection. Only one goroutine may call it.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.conns.admit(l.closed) {
			return c, nil
		}
		_ = c.Close()
	}
}

// fdListener accepts fdConns from peers that may talk to the daemon, as many as
// there may be.
type fdListener struct {
	*boundedListener
	unix *net.UnixListener
	log  *slog.Logger
	// group, unless it is negative, has members that may talk to the daemon as well.
	group int

	refusedAt time.Time // when a refusal was logged last
}

func newFDListener(l *net.UnixListener, conns *connLimit, log *slog.Logger) *fdListener {
	return &fdListener{boundedListener: newBoundedListener(l, conns), unix: l, log: log, group: -1}
}

// Accept returns the next connection whose peer is root, this very user, or a member of
// the group. Others take no room from these. Only one goroutine may call it.
func (l *fdListener) Accept() (net.Conn, error) {
	for {
		c, err := l.unix.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.welcome(c) && l.conns.admit(l.closed) {
			return &fdConn{UnixConn: c}, nil
		}
		_ = c.Close()
	}
}

// welcome reports whether the peer may talk to the daemon. What the kernel says of it counts,
// in whatever container it is, and not only the mode of the socket's file, which others may
// have changed.
func (l *fdListener) welcome(c *net.UnixConn) bool {
	peer, err := fdcontrol.Peer(c)
	if err == nil && (peer.Uid == 0 || peer.Uid == uint32(os.Geteuid()) || l.isMember(c, peer)) {
		return true
	}
	if err != nil { // it cannot be told who it is
		peer = &fdcontrol.Cred{Uid: ^uint32(0), Gid: ^uint32(0)}
	}
	l.refused(peer)
	return false
}

// isMember reports whether the peer is in the group, first or among others.
func (l *fdListener) isMember(c *net.UnixConn, peer *fdcontrol.Cred) bool {
	if l.group < 0 {
		return false
	}
	if peer.Gid == uint32(l.group) {
		return true
	}
	groups, err := fdcontrol.PeerGroups(c)
	return err == nil && slices.Contains(groups, uint32(l.group))
}

// refusalLogInterval keeps a peer from filling the log.
const refusalLogInterval = 10 * time.Second

func (l *fdListener) refused(peer *fdcontrol.Cred) {
	now := time.Now()
	if now.Sub(l.refusedAt) < refusalLogInterval {
		return
	}
	l.refusedAt = now
	attrs := []any{slog.Uint64("uid", uint64(peer.Uid)), slog.Uint64("gid", uint64(peer.Gid))}
	if l.group >= 0 {
		attrs = append(attrs, slog.Int("group", l.group))
	}
	l.log.Warn("connection refused: only root, the daemon's own user, and the group of an "+
		"observers' socket may connect", attrs...)
}

type connKey struct{}

// connContext makes the connection reachable from its requests' contexts.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// fdConnOf returns the request's connection, nil where it is of another kind.
func fdConnOf(ctx context.Context) *fdConn {
	c, _ := ctx.Value(connKey{}).(*fdConn)
	return c
}

// rightsConn is a client's connection that sends one descriptor along with the
// first byte it writes.
type rightsConn struct {
	*net.UnixConn
	file *os.File // nil once sent
}

// Write sends all of b. A message with a descriptor may be written short; the
// rest follows without it.
func (c *rightsConn) Write(b []byte) (int, error) {
	if c.file == nil || len(b) == 0 {
		return c.UnixConn.Write(b)
	}
	n, _, err := c.WriteMsgUnix(b, syscall.UnixRights(int(c.file.Fd())), nil)
	if err != nil {
		return n, err
	}
	c.file = nil
	if n == len(b) {
		return n, nil
	}
	m, err := c.UnixConn.Write(b[n:])
	return n + m, err
}
