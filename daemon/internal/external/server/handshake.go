// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// receiveHello takes the first message of an inspector. Who says nothing does not hold up the
// end of ctx, which does nothing to the connection once the message is there.
func receiveHello(ctx context.Context, c *net.UnixConn) (proto.Hello, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return proto.Hello{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(0, 0)) })
	var buf [proto.MaxReceived + 1]byte
	n, err := c.Read(buf[:])
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return proto.Hello{}, fmt.Errorf("no HELLO came: %w", err)
	}
	h, err := proto.ParseHello(buf[:n])
	if err != nil {
		return proto.Hello{}, err
	}
	h.Version = min(h.Version, proto.Version) // 1 is the first one
	h.InFlight = cmp.Or(h.InFlight, proto.MaxInFlight)
	h.Batch = cmp.Or(h.Batch, proto.MaxBatch)
	return h, c.SetReadDeadline(time.Time{})
}

// sendBuffer is how many bytes of messages may be on their way.
const sendBuffer = 4 << 20

// welcome agrees with an inspector, and tells it of all attachments.
func (s *Server) welcome(l *link) error {
	_ = fdcontrol.Do(l.conn, func(fd int) error { // it works with less
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer)
	})
	if err := s.agree(l); err != nil {
		return err
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	all := s.all()
	if s.config.Lends {
		clear(all) // each is told with its socket
	}
	if err := s.sendWelcome(l, len(all)); err != nil {
		return err
	}
	for a, n := range all {
		if _, err := l.conn.Write(proto.AppendAttach(nil, n.number, describe(a))); err != nil {
			return err
		}
		l.announced[a] = n.number
	}
	return l.conn.SetWriteDeadline(time.Time{})
}

// agree settles which features count.
func (s *Server) agree(l *link) (err error) {
	var has uint32
	switch {
	case s.config.Lends:
		has = proto.FeatureQueues
	case s.config.Memory:
		has = proto.FeatureMemory
	}
	l.hello.Features &= has
	switch {
	case s.config.Lends && l.hello.Features == 0:
		return fmt.Errorf("%w: it reads no queues by itself (feature bit 1), as the transport "+
			"descriptor has it", proto.ErrMalformed)
	case l.hello.Features == proto.FeatureMemory:
		l.memory, err = newMemory()
	}
	return err
}

func (s *Server) sendWelcome(l *link, attachments int) error {
	w := proto.Welcome{
		Version: l.hello.Version, InFlight: l.hello.InFlight, Features: l.hello.Features,
		CopyRange: l.hello.CopyRange, Batch: l.hello.Batch, Queue: s.config.Queue,
		Budget: uint32(s.config.Budget / time.Microsecond), MarkMask: s.config.MarkMask,
		Attachments: uint32(attachments), Boot: s.boot,
	}
	if l.memory == nil {
		_, err := l.conn.Write(w.Append(nil))
		return err
	}
	w.Memory = memorySize
	return fdcontrol.Do(l.memory.file, func(fd int) error {
		_, _, err := l.conn.WriteMsgUnix(w.Append(nil), unix.UnixRights(fd), nil)
		return err
	})
}

func (l *link) closeMemory() {
	if l.memory != nil {
		l.memory.close()
	}
}

// known returns which attachments the inspector was told of.
func (l *link) known() map[*inspect.Attachment]uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.announced)
}
