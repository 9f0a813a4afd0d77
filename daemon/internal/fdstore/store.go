// SPDX-License-Identifier: Apache-2.0

// Package fdstore is a daemon's side of systemd's notification and descriptor
// store protocol: it tells the supervisor how the daemon is, hands it
// descriptors that are to outlive the daemon, and takes those over that the
// daemon before this one had handed it.
//
// A message that has been sent needs no confirmation. The descriptors are in
// the supervisor's socket from then on, whatever becomes of the sender, and a
// supervisor reads what a daemon has sent before it handles the daemon's death.
//
// It starts no goroutine.
package fdstore

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// The kinds of supervisors.
const (
	Systemd   = "systemd"
	Supervise = "supervise" // `nsqueued supervise`
	None      = "none"
)

// Supervisor is the program that restarts this daemon.
type Supervisor struct {
	Kind string
	PID  int
	// Restarts so far; systemd does not tell.
	Restarts int
}

// Store is the supervisor's store of descriptors. Its methods may be called
// concurrently. Without a supervisor they do nothing and succeed.
type Store struct {
	getppid    func() int
	watchdog   time.Duration
	supervisor Supervisor
	capacity   int
	inherited  []Descriptor
	lease      *succession.Lease // nil for most supervisors
	waiting    *succession.Conn  // nil unless descriptors are to come
	contested  bool              // see Contested
	roleFile   string
	retirement retirement

	// claimed: the lease is this daemon's. Claim sets it, with the lock.
	claimed atomic.Bool

	mu     sync.Mutex // also keeps messages in order
	notify *notifier  // nil without a supervisor and after Close
	// removals are names whose removal the supervisor has not been told of.
	removals []string
	// stored counts the descriptors in the store by name.
	stored map[string]int
	total  int
	length int // of the list of names
}

// Keeps reports whether what is put into the store outlives this process. It
// stops doing so when `nsqueued supervise` dies before its daemon: that gets
// SIGTERM then, a moment before this says no. Ask last, after all answers.
//
// Of supervisors that hand over to each other, any may keep it, and all of them have
// let go before the daemon's last stop.
func (s *Store) Keeps() bool {
	if s.lease != nil {
		return s.capacity > 0 && s.lease.Kept()
	}
	orphaned := s.supervisor.Kind == Supervise && s.getppid() != s.supervisor.PID
	return s.capacity > 0 && !orphaned
}

// Supervisor returns what restarts this daemon.
func (s *Store) Supervisor() Supervisor {
	if s.supervisor.Kind == "" {
		return Supervisor{Kind: None}
	}
	return s.supervisor
}

// Usage returns how many descriptors are stored, and how many may be. Without a
// supervisor that keeps any, both are zero.
func (s *Store) Usage() (stored, capacity int) {
	if !s.Keeps() {
		return 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.capacity
}

// Watchdog is how long the supervisor waits for a call of [Store.Alive] before
// it takes the daemon for hung; zero if for ever.
func (s *Store) Watchdog() time.Duration { return s.watchdog }

// Inherited returns the descriptors that were in the store when this process
// started, in their order. They stay in the store until they are removed.
func (s *Store) Inherited() []Descriptor { return s.inherited }

// Put stores the files under a name, besides those that are stored under it
// already. The store has descriptors of its own from then on. After an error
// some of the files may be stored.
func (s *Store) Put(name Name, files ...*os.File) error {
	if !s.Keeps() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.tellRemovalsLocked(); err != nil {
		return err
	}
	if err := s.checkRoom(name, len(files)); err != nil {
		return err
	}
	message := "FDSTORE=1\nFDNAME=" + name.String() + "\nFDPOLL=0"
	for len(files) > 0 {
		n := min(len(files), maxRights)
		if err := s.notify.send(message, files[:n]); err != nil {
			return fmt.Errorf("store descriptors as %s: %w", name, err)
		}
		s.stored[name.String()] += n
		s.total += n
		s.length += n * (len(name.String()) + 1)
		files = files[n:]
	}
	return nil
}

// checkRoom refuses what the supervisor would close without a word, and what
// would keep it from starting a daemon again.
func (s *Store) checkRoom(name Name, n int) error {
	if s.total+n > s.capacity {
		return fmt.Errorf("store %d descriptors as %s: %d of %d are in use "+
			"(raise FileDescriptorStoreMax and FDSTORE in the unit, or supervise's "+
			"--max-descriptors)", n, name, s.total, s.capacity)
	}
	if length := s.length + n*(len(name.String())+1); length > MaxNames {
		return fmt.Errorf("store %d descriptors as %s: the list of all names would be "+
			"%d bytes long: %d is the kernel's limit", n, name, length, MaxNames)
	}
	return nil
}

// Remove removes every descriptor of a name from the store. It is called
// before the daemon closes its own. A supervisor that cannot be told now is told
// with the next message: to the caller it is done.
func (s *Store) Remove(name Name) error { return s.RemoveNamed(name.String()) }

// RemoveNamed is [Store.Remove] for inherited descriptors whose name does not
// parse.
func (s *Store) RemoveNamed(name string) error {
	if !s.Keeps() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removals = append(s.removals, name)
	if err := s.tellRemovalsLocked(); err != nil && len(s.removals) > maxRemovals {
		return err
	}
	return nil
}

// maxRemovals is more than a supervisor that answers at all falls behind.
const maxRemovals = 10000

// tellRemovalsLocked tells the supervisor what it could not be told before. It is
// called before anything else is said of the store: a name may be in use again.
func (s *Store) tellRemovalsLocked() error {
	for len(s.removals) > 0 {
		name := s.removals[0]
		if err := s.notify.send("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
			return fmt.Errorf("remove %s from the descriptor store: %w", name, err)
		}
		s.removals = s.removals[1:]
		s.uncountLocked(name, s.stored[name])
	}
	return nil
}

// Ready tells the supervisor that the daemon serves. It returns ErrRevoked where the
// daemon may not do so any more.
func (s *Store) Ready(status string) error {
	if err := s.Claim(); err != nil {
		return err
	}
	return s.tell("READY=1\nSTATUS=" + oneLine(status))
}

// Status tells the supervisor in a line how the daemon is.
func (s *Store) Status(text string) error { return s.tell("STATUS=" + oneLine(text)) }

// Stopping tells the supervisor that the daemon has begun to stop.
func (s *Store) Stopping() error { return s.tell("STOPPING=1") }

// Alive feeds the supervisor's watchdog.
func (s *Store) Alive() error { return s.tell("WATCHDOG=1") }

// Close ends the connection to the supervisor. What is stored stays stored,
// and what was inherited stays open.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify.close()
	s.notify = nil
}

func (s *Store) tell(message string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.tellRemovalsLocked(); err != nil {
		return err
	}
	if err := s.notify.send(message, nil); err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	return nil
}

// oneLine keeps text from being read as further assignments.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }
