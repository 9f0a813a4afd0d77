// SPDX-License-Identifier: Apache-2.0

package api

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// connLimit bounds the number of a server's connections. Where there are as many
// as there may be, those that bring no request make room for new ones.
type connLimit struct {
	limit   int
	silence time.Duration // after which a connection may be given up

	mu       sync.Mutex
	open     int
	silent   list.List // of silentConn, the one that is silent the longest first
	elements map[net.Conn]*list.Element
	stopped  bool

	// left wakes admit when there may be room.
	left chan struct{}
}

// silentConn is a connection without a request.
type silentConn struct {
	net.Conn
	since time.Time
	// fresh: it has not brought a request yet.
	fresh bool
}

func newConnLimit(limit int, silence time.Duration) *connLimit {
	return &connLimit{
		limit: limit, silence: silence,
		elements: make(map[net.Conn]*list.Element), left: make(chan struct{}, 1),
	}
}

// admit waits until there is room for one more connection; false means that
// stop was closed before. Only one goroutine may wait.
func (l *connLimit) admit(stop <-chan struct{}) bool {
	for {
		wait, ok := l.tryAdmit()
		if ok {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.left:
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
func (l *connLimit) tryAdmit() (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.limit {
		l.open++
		return 0, true
	}
	oldest := l.silent.Front()
	if oldest == nil {
		return l.silence, false
	}
	c := oldest.Value.(silentConn)
	if wait := l.silence - time.Since(c.since); wait > 0 {
		return wait, false
	}
	l.removeSilentLocked(c.Conn)
	_ = c.Close()
	return l.silence, false
}

// track follows the connections that were admitted; it is the server's
// ConnState.
func (l *connLimit) track(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeSilentLocked(c)
	switch state {
	case http.StateNew, http.StateIdle:
		fresh := state == http.StateNew
		if fresh && l.stopped {
			_ = c.Close()
			return
		}
		l.elements[c] = l.silent.PushBack(silentConn{c, time.Now(), fresh})
	case http.StateClosed, http.StateHijacked:
		l.open--
		select {
		case l.left <- struct{}{}:
		default:
		}
	}
}

// removeSilentLocked takes a connection from the silent ones. The caller holds l.mu.
func (l *connLimit) removeSilentLocked(c net.Conn) {
	if e := l.elements[c]; e != nil {
		l.silent.Remove(e)
		delete(l.elements, c)
	}
}

// stop ends the connections that have not brought a request yet, also those
// that are still to come: a server that stops would wait seconds for them.
func (l *connLimit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for e := l.silent.Front(); e != nil; e = e.Next() {
		if c := e.Value.(silentConn); c.fresh {
			_ = c.Close()
		}
	}
}
