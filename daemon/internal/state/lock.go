// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
)

// retryLock is how often Lock tries. Packets wait meanwhile.
const retryLock = 2 * time.Millisecond

// ErrUnsaved is in the chain of Lock's error when the lock is there, and files are as they
// were before it.
var ErrUnsaved = errors.New("state files cannot be changed")

// Lock makes the directory this process', and carries out all changes that have waited for
// that. Another process that has the lock is about to end. Where its error matches
// [ErrInUse], nothing was changed.
func (s *Store) Lock(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(retryLock)
	defer tick.Stop()
	for {
		err := s.tryLock()
		if !errors.Is(err, ErrInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *Store) tryLock() error {
	lock, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return errors.Join(fmt.Errorf("lock %s: %w", s.dir, err), lock.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock = lock
	return s.carryOutLocked()
}

// carryOutLocked does what has waited for the lock.
func (s *Store) carryOutLocked() error {
	waiting := s.changes
	s.changes = nil
	var errs []error
	for path := range waiting.damaged {
		errs = append(errs, putAside(path))
	}
	for _, path := range slices.Sorted(maps.Keys(waiting.files)) {
		var err error
		if b := waiting.files[path]; b == nil {
			_, err = s.removeLocked(path)
		} else {
			err = replace(path, b)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	return nil
}

// changes are what a store is to change in its directory.
type changes struct {
	files   map[string][]byte // nil: is to be removed
	damaged map[string]bool
}

func newChanges() *changes {
	return &changes{files: make(map[string][]byte), damaged: make(map[string]bool)}
}

func (c *changes) write(path string, b []byte) { c.files[path] = b }

func (c *changes) remove(path string) { c.files[path] = nil }

func (c *changes) putAside(path string) { c.damaged[path] = true }
