// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// stateSocket is where the supervisor tells its state to who connects, in one JSON
// object. It asks nothing and waits for nobody. The answer comes from the one loop that
// does all else, so that a supervisor that hangs does not claim to be well.
type stateSocket struct {
	fd   int // negative: it could not be made
	path string
	// restUntil is when connections are accepted again after that failed, as at the
	// limit of open files; zero: it has not.
	restUntil time.Time
}

// stateRest is for how long. Those who connect wait meanwhile, or give up.
const stateRest = time.Second

// openState makes the socket. The notification socket is ours by now, so that one at its
// path is of a supervisor that is gone.
func openState(dir string) (stateSocket, error) {
	s := stateSocket{fd: -1, path: api.SupervisorSocket(dir)}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return s, os.NewSyscallError("socket", err)
	}
	if err := s.listen(fd); err != nil {
		return s, errors.Join(fmt.Errorf("listen at %s: %w", s.path, err), unix.Close(fd))
	}
	s.fd = fd
	return s, nil
}

const stateBacklog = 16

func (s *stateSocket) listen(fd int) error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The mode comes before the name, so that it holds from the first moment.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, stateBacklog))
}

func (s *stateSocket) close() {
	if s.fd >= 0 {
		_ = os.Remove(s.path)
		_ = unix.Close(s.fd)
	}
}

// answer tells a few of those who wait; the loop comes again for the rest. One that does
// not read is its own loss: an empty buffer has room for all that is said.
func (s *stateSocket) answer(state *api.SupervisorState) error {
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for range stateBacklog {
		conn, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return os.NewSyscallError("accept", err)
		}
		_ = unix.Send(conn, append(b, '\n'), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		_ = unix.Close(conn)
	}
	return nil
}

// tellState answers who asks for the state.
func (s *supervisor) tellState(now time.Time) {
	if s.state.fd < 0 || now.Before(s.state.restUntil) {
		return
	}
	s.state.restUntil = time.Time{}
	if err := s.state.answer(s.describe()); err != nil {
		s.log.Warn("cannot tell the supervisor's state", slog.Any("error", err))
		s.state.restUntil = now.Add(stateRest)
	}
}

// pollFD is what to wait at for who asks.
func (s *stateSocket) pollFD() int32 {
	if !s.restUntil.IsZero() {
		return -1
	}
	return int32(s.fd)
}

// sooner is the earlier one of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// describe is the state as it is told.
func (s *supervisor) describe() *api.SupervisorState {
	state := &api.SupervisorState{
		Version: api.Version(), PID: os.Getpid(), Role: s.shared.apiRole(),
		Restarts: s.restarts, Descriptors: len(s.store.held), Retired: s.shared.retired(),
	}
	if s.worker != nil {
		state.Worker = &api.WorkerState{PID: s.worker.pid, Ready: s.worker.ready}
	}
	return state
}
