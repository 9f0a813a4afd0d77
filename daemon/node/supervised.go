// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/internal/fdcontrol"
)

// supervised is this daemon's relation to its supervisor.
type supervised struct {
	*fdstore.Store
	log *slog.Logger
	// ahead is what was found out while another daemon served; nil if none did.
	ahead *registry.Ahead
}

// listenerName is what the API's listener is kept under. No call is refused
// while a daemon follows another one: connections wait in it.
func listenerName() fdstore.Name { return fdstore.Name{Kind: fdstore.Listener} }

// listen returns the listener that an earlier daemon left for the socket, or
// makes one and has it kept.
func (s *supervised) listen(socket string) (*net.UnixListener, error) {
	if l := s.inheritedListener(socket); l != nil {
		return l, nil
	}
	l, err := api.Listen(socket)
	if err != nil || !s.Keeps() {
		return l, err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	defer f.Close()
	if err := s.Put(listenerName(), f); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// inheritedListener returns nil where there is none for the socket. Others are
// let go of.
func (s *supervised) inheritedListener(socket string) *net.UnixListener {
	var found *net.UnixListener
	for _, d := range s.Inherited() {
		name, err := fdstore.ParseName(d.Name)
		if err != nil || name.Kind != fdstore.Listener {
			continue
		}
		l, err := listenerOf(d.File, socket)
		if err == nil && found == nil {
			found = l
			continue
		}
		s.log.Warn("cannot use an inherited listener; closing it", slog.Any("error", err))
	}
	return found
}

// listenerOf takes the file over. The socket must still be the one at its path.
func listenerOf(f *os.File, socket string) (*net.UnixListener, error) {
	l, err := net.FileListener(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok || u.Addr().String() != socket {
		return nil, errors.Join(
			fmt.Errorf("it listens at %s, not at %s", l.Addr(), socket), l.Close())
	}
	u.SetUnlinkOnClose(false)
	if _, err := os.Lstat(socket); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	if err := listenAgain(u); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// listenAgain makes this process the one that clients are told to be connected
// to (SO_PEERCRED): it is the one that has called listen last.
func listenAgain(l *net.UnixListener) error {
	return fdcontrol.Do(l, func(fd int) error {
		return os.NewSyscallError("listen", unix.Listen(fd, backlog))
	})
}

// backlog is cut by the kernel to what net.core.somaxconn says, which is what
// package net asks for.
const backlog = 1<<16 - 1

// ready tells the supervisor that calls are answered.
func (s *supervised) ready(attachments int) {
	s.warn(s.Ready(fmt.Sprintf("%d attachments", attachments)))
}

func (s *supervised) stopping() { s.warn(s.Stopping()) }

func (s *supervised) warn(err error) {
	if err != nil {
		s.log.Warn("cannot notify the supervisor", slog.Any("error", err))
	}
}

// feed tells the watchdog that the daemon lives, which probe must find out, and
// returns when ctx ends.
func (s *supervised) feed(ctx context.Context, probe func()) {
	interval := s.Watchdog() / 3
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		probe()
		s.warn(s.Alive())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
