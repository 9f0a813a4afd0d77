// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
	"github.com/nsqueue/nsqueue/internal/dirwatch"
)

const (
	// patience is how long a connection may take for its HELLO, and for what it is told.
	patience = 2 * time.Second
	// retry is how long the server waits before it listens or accepts again.
	retry = time.Second
)

// Run listens and serves inspectors until ctx ends, and returns when all packets have their
// verdicts.
func (s *Server) Run(ctx context.Context) {
	var links sync.WaitGroup
	defer links.Wait()
	for ctx.Err() == nil {
		l, err := s.listen()
		if err == nil {
			s.problem.Store(nil)
			err = s.accept(ctx, l, &links)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if text := err.Error(); s.problem.Swap(&text) == nil {
			s.events.report(slog.LevelError, "the inspector "+s.config.Name+
				" cannot connect: "+text)
		}
		dirwatch.Pause(ctx, retry)
	}
}

// accept serves who connects, one after the other. Who comes while an inspector is there
// waits until that goes away, or has stalled.
func (s *Server) accept(ctx context.Context, l *net.UnixListener, links *sync.WaitGroup) error {
	defer l.Close()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for s.awaitRoom(ctx) {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // no descriptors, or gone already
			dirwatch.Pause(ctx, retry)
			continue
		}
		if err := s.connect(ctx, c, links); err != nil {
			s.refuse(c, err)
		}
	}
	return nil
}

// awaitRoom returns when another inspector may connect, or false if ctx ends.
func (s *Server) awaitRoom(ctx context.Context) bool {
	for ctx.Err() == nil {
		l := s.link.Load()
		if l == nil || l.isStalled() {
			return true
		}
		select {
		case <-ctx.Done():
		case <-s.room:
		case <-l.ended:
			s.link.CompareAndSwap(l, nil)
		}
	}
	return false
}

var errUser = errors.New("its user may not connect")

// connect makes a link of a connection, and has it served.
func (s *Server) connect(ctx context.Context, c *net.UnixConn, links *sync.WaitGroup) error {
	p, ok := s.admit(c)
	if !ok {
		return errUser
	}
	h, err := receiveHello(ctx, c)
	if err != nil {
		return err
	}
	if !s.awaitRoom(ctx) {
		return context.Cause(ctx)
	}
	l, err := s.newLink(c, p, h)
	if err != nil {
		return err
	}
	if err := s.welcome(l); err != nil {
		l.closeMemory()
		return err
	}
	s.counters.connections.Add(1)
	s.replace(l)
	links.Go(func() { s.serve(ctx, l) })
	return nil
}

// replace makes l the link that packets go to.
func (s *Server) replace(l *link) {
	if old := s.link.Load(); old != nil { // it has stalled
		old.part(proto.ReasonReplaced, "another inspector has connected")
	}
	s.copies.Store(l.hello.CopyRange)
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, n := range s.numbers {
		if !s.config.Lends {
			l.announce(a, n.number)
		}
	}
	for a, number := range l.known() {
		if s.numbers[a] == nil {
			l.forget(a, number)
		}
	}
	s.link.Store(l)
	close(s.arrival)
	s.arrival = make(chan struct{})
}

// serve serves a link to its end.
func (s *Server) serve(ctx context.Context, l *link) {
	s.events.connected(l)
	var whole []*inspect.Attachment
	for a, n := range s.all() {
		if n.whole {
			whole = append(whole, a)
		}
	}
	var telling sync.WaitGroup
	if len(whole) > 0 { // who is told may wait for packets to be answered
		ended, cancel := context.WithCancel(ctx)
		telling.Go(func() { s.Changed(ended, whole) })
		defer telling.Wait()
		defer cancel()
	}
	err := l.serve(ctx)
	if errors.Is(err, proto.ErrMalformed) {
		s.counters.malformed.Add(1)
	}
	if ctx.Err() == nil {
		s.events.gone(l, err)
	}
}

// refuse ends a connection that did not become a link.
func (s *Server) refuse(c *net.UnixConn, err error) {
	s.counters.refused.Add(1)
	reason := proto.ReasonDone
	if errors.Is(err, proto.ErrMalformed) {
		s.counters.malformed.Add(1)
		reason = proto.ReasonMalformed
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, _ = c.Write(proto.AppendBye(nil, reason, err.Error()))
	_ = c.Close()
	s.events.refused(err)
}
