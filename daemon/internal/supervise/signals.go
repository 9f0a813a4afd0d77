// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// signals turns the process' signals into bytes in a pipe, so that one poll
// waits for them and for notifications, and the order in which they are
// handled is ours.
type signals struct {
	read, write int
	caught      chan os.Signal
	forwarder   sync.WaitGroup
}

func openSignals() (*signals, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	s := &signals{read: p[0], write: p[1], caught: make(chan os.Signal, 16)}
	signal.Notify(s.caught, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2, unix.SIGCHLD)
	s.forwarder.Go(func() {
		for caught := range s.caught {
			if sig, ok := caught.(syscall.Signal); ok {
				// A pipe that is full will be read, and holds this signal already.
				_, _ = unix.Write(s.write, []byte{byte(sig)})
			}
		}
	})
	return s, nil
}

// take returns the signals that have arrived.
func (s *signals) take() ([]unix.Signal, error) {
	var b [64]byte
	n, err := unix.Read(s.read, b[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("read signals", err)
	}
	taken := make([]unix.Signal, n)
	for i, sig := range b[:n] {
		taken[i] = unix.Signal(sig)
	}
	return taken, nil
}

func (s *signals) close() {
	signal.Stop(s.caught)
	close(s.caught)
	s.forwarder.Wait()
	_ = unix.Close(s.read)
	_ = unix.Close(s.write)
}
