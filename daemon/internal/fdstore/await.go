// SPDX-License-Identifier: Apache-2.0

package fdstore

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// PreparedMessage is the notification of a daemon that waits for descriptors.
const PreparedMessage = "NSQUEUE_PREPARED"

// SeenMessage is the notification of a daemon that has looked at the descriptors that
// have come so far.
const SeenMessage = "NSQUEUE_SEEN"

// ErrRevoked says that another supervisor has taken back what this daemon was to serve
// with, because it was not ready in time.
var ErrRevoked = errors.New("this daemon was not ready in time: another supervisor goes on")

// takeChannels takes over what a supervisor passes besides stored descriptors.
func (s *Store) takeChannels(env Environment) error {
	lease, err := channel(env, EnvLease)
	if err == nil && lease >= 0 {
		s.lease = succession.LeaseOf(lease, -1)
	}
	waiting, waitErr := channel(env, EnvDescriptors)
	if waitErr == nil && waiting >= 0 {
		s.waiting = succession.NewConn(waiting)
	}
	s.roleFile = env.Getenv(EnvRole)
	s.retirement = retirement{path: env.Getenv(EnvRetirement), instance: env.Getenv(EnvInstance)}
	began, beganErr := number(env, EnvBegan, math.MaxInt64)
	s.retirement.began = time.Duration(began)
	return errors.Join(err, waitErr, beganErr)
}

// channel returns an inherited descriptor that no other process inherits from here,
// -1 where there is none.
func channel(env Environment, name string) (int, error) {
	if env.Getenv(name) == "" {
		return -1, nil
	}
	fd, err := number(env, name, maxInherited)
	if err == nil && fd < FirstFD {
		err = fmt.Errorf("%s is %d: want at least %d", name, fd, FirstFD)
	}
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	return fd, nil
}

// Shared reports whether the supervisor is one of two that hand over to each other.
// The daemon of the other one may need a moment to end.
func (s *Store) Shared() bool { return s.lease != nil }

// Contested reports whether another supervisor may take the descriptors back, and have its
// daemon go on, until [Store.Claim] has succeeded.
func (s *Store) Contested() bool { return s.contested }

// Claim makes the descriptors this daemon's for good. It returns ErrRevoked where another
// supervisor was first.
func (s *Store) Claim() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil && !s.claimed.Load() && !s.lease.Claim() {
		return ErrRevoked
	}
	s.claimed.Store(true)
	return nil
}

// Revoked reports whether another supervisor has taken the descriptors back. Look before
// anything that would disturb its daemon: this process may have been stopped meanwhile.
func (s *Store) Revoked() bool {
	// The lease may be claimed by this daemon after the first look.
	return s.contested && !s.claimed.Load() && s.lease != nil && s.lease.Claimed() &&
		!s.claims()
}

// claims reports whether this daemon has claimed the lease, once it does not do so at this
// moment.
func (s *Store) claims() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed.Load()
}

// retirement is where an installation is told to leave the node.
type retirement struct {
	path     string // empty: nowhere
	instance string
	began    time.Duration
}

// Retire has the installation leave the node, whatever becomes of this process. Without
// supervisors that hand over to each other it does nothing.
func (s *Store) Retire() error {
	if s.retirement.path == "" {
		return nil
	}
	return succession.Retire(s.retirement.path, s.retirement.instance)
}

// Retired reports whether it leaves.
func (s *Store) Retired() (bool, error) {
	if s.retirement.path == "" {
		return false, nil
	}
	r := &s.retirement
	return succession.IsRetired(r.path, r.instance, r.began)
}

// RoleFile is where the supervisor says what it is to others, empty where there are
// none.
func (s *Store) RoleFile() string { return s.roleFile }

// Waits reports whether the descriptors are still with another daemon: prepare all
// that can be, and call [Store.Await].
func (s *Store) Waits() bool { return s.waiting != nil }

// Await tells the supervisor that the daemon is prepared, and returns when it has the
// descriptors. Copies of them come before that, while another daemon serves by them: look
// is called with those that have come so far, and changes nothing.
func (s *Store) Await(look func([]Descriptor)) error {
	if err := s.tell(PreparedMessage + "=1"); err != nil {
		return err
	}
	defer s.waiting.Close()
	for {
		m, fds, err := s.waiting.Receive()
		if errors.Is(err, succession.ErrAgain) {
			err = pollIn(s.waiting.FD())
		} else if err == nil {
			err = s.came(&m, fds, look)
		}
		switch {
		case errors.Is(err, errStart):
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the supervisor has no use for this daemon any more")
		case err != nil:
			return err
		}
	}
}

// errStart ends the waiting.
var errStart = errors.New("start")

// came handles a message while the daemon waits.
func (s *Store) came(m *succession.Message, fds []int, look func([]Descriptor)) error {
	switch {
	case m.Kind == succession.Descriptors:
		s.inherit(m.Names, fds)
		return nil
	case m.Kind == succession.Forget:
		return s.forget(m.Positions)
	case m.Kind == succession.Copied && m.Count == len(s.inherited):
		look(s.inherited)
		return s.tell(SeenMessage + "=1")
	case m.Kind == succession.Start && m.Count == len(s.inherited):
		s.contested = !m.Alone
		return errStart
	}
	succession.CloseAll(fds)
	return fmt.Errorf("%d descriptors have come, and %s says %d", len(s.inherited), m.Kind, m.Count)
}

// StopWaiting has [Store.Await] return an error.
func (s *Store) StopWaiting() {
	if s.waiting != nil {
		_ = unix.Shutdown(s.waiting.FD(), unix.SHUT_RD)
	}
}

func (s *Store) inherit(names []string, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, fd := range fds {
		s.inherited = append(s.inherited, Descriptor{
			Name: names[i], File: os.NewFile(uintptr(fd), names[i]),
		})
		s.countLocked(names[i])
	}
}

// forget closes those at the positions.
func (s *Store) forget(positions []int) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited, err = succession.DeleteAt(s.inherited, positions, func(d Descriptor) {
		_ = d.File.Close()
		s.uncountLocked(d.Name, 1)
	})
	return err
}

// pollIn waits until there is something to read.
func pollIn(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}
