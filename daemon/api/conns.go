// SPDX-License-Identifier: Apache-2.0

package api

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// conns are a server's connections. It bounds their number: where there are as
// many as there may be, those that bring no request make room for new ones.
type conns struct {
	limit   int
	silence time.Duration // after which a connection may be given up

	mu       sync.Mutex
	open     int
	silent   list.List // of silentConn, the one that is silent the longest first
	elements map[net.Conn]*list.Element
	stopped  bool

	// left wakes the one who waits for room.
	left chan struct{}
}

// silentConn is a connection without a request.
type silentConn struct {
	net.Conn
	since time.Time
	// fresh: it has not brought a request yet.
	fresh bool
}

func newConns(limit int, silence time.Duration) *conns {
	return &conns{
		limit: limit, silence: silence,
		elements: make(map[net.Conn]*list.Element), left: make(chan struct{}, 1),
	}
}

// admit waits until there is room for one more connection; false means that
// stop was closed before. Only one goroutine may wait.
func (s *conns) admit(stop <-chan struct{}) bool {
	for {
		wait, ok := s.tryAdmit()
		if ok {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.left:
		case <-timer.C:
		case <-stop:
		}
		timer.Stop()
		select {
		case <-stop:
			return false
		default:
		}
	}
}

// tryAdmit takes the room if there is any. Else it gives up the connection that
// has been silent the longest, and returns how long it may take to find out
// more. A young one is spared: its request may be on the way.
func (s *conns) tryAdmit() (wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open < s.limit {
		s.open++
		return 0, true
	}
	oldest := s.silent.Front()
	if oldest == nil {
		return s.silence, false
	}
	c := oldest.Value.(silentConn)
	if wait := s.silence - time.Since(c.since); wait > 0 {
		return wait, false
	}
	s.forget(c.Conn)
	_ = c.Close()
	return s.silence, false
}

// track follows the connections that were admitted; it is the server's
// ConnState.
func (s *conns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c)
	switch state {
	case http.StateNew, http.StateIdle:
		fresh := state == http.StateNew
		if fresh && s.stopped {
			_ = c.Close()
			return
		}
		s.elements[c] = s.silent.PushBack(silentConn{c, time.Now(), fresh})
	case http.StateClosed, http.StateHijacked:
		s.open--
		select {
		case s.left <- struct{}{}:
		default:
		}
	}
}

// forget takes a connection from the silent ones. The caller holds s.mu.
func (s *conns) forget(c net.Conn) {
	if e := s.elements[c]; e != nil {
		s.silent.Remove(e)
		delete(s.elements, c)
	}
}

// stop ends the connections that have not brought a request yet, also those
// that are still to come: a server that stops would wait seconds for them.
func (s *conns) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for e := s.silent.Front(); e != nil; e = e.Next() {
		if c := e.Value.(silentConn); c.fresh {
			_ = c.Close()
		}
	}
}
