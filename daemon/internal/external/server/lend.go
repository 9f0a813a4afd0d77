// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external/proto"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// ErrAway is in the chain of Lend's error where no inspector is connected.
var ErrAway = errors.New("the inspector is not connected")

// Loan is a socket that the inspector has, by which it reads the queue of an attachment.
type Loan struct {
	link       *link
	attachment *inspect.Attachment
	number     uint32
	once       sync.Once
}

// Lend tells the inspector of an attachment, and gives it the socket, which stays the
// caller's.
func (s *Server) Lend(a *inspect.Attachment, socket *os.File) (*Loan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link.Load()
	if l == nil {
		return nil, ErrAway
	}
	n := s.numberLocked(a)
	s.last++
	n.number = s.last // no connection hears of a number twice
	if err := l.lend(a, n.number, socket); err != nil {
		return nil, fmt.Errorf("give a socket to process %d: %w", l.peer.pid, err)
	}
	return &Loan{link: l, attachment: a, number: n.number}, nil
}

// Away returns nil where an inspector is connected, or what is closed when one connects.
func (s *Server) Away() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.Load() != nil {
		return nil
	}
	return s.arrival
}

// PID is the inspector's process.
func (o *Loan) PID() int { return o.link.peer.pid }

// Ended is closed when the inspector is gone.
func (o *Loan) Ended() <-chan struct{} { return o.link.ended }

// Return tells the inspector that the socket is not read any more.
func (o *Loan) Return() {
	o.once.Do(func() { o.link.forget(o.attachment, o.number) })
}

// lend sends ATTACH with a socket, if there is room for it.
func (l *link) lend(a *inspect.Attachment, number uint32, socket *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.draining {
		return ErrAway
	}
	if len(l.outbox.messages) > 0 {
		return unix.EAGAIN
	}
	attach := proto.AppendAttach(nil, number, describe(a))
	err := fdcontrol.Do(socket, func(fd int) error {
		rights := unix.UnixRights(fd)
		return fdcontrol.Do(l.conn, func(to int) error {
			return unix.Sendmsg(to, attach, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		})
	})
	if err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	l.announced[a] = number
	return nil
}
