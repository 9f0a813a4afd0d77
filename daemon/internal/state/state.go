// SPDX-License-Identifier: Apache-2.0

// Package state owns the directory that says which attachments there should
// be: one JSON file each, written atomically. The daemon that starts next
// makes them true again.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// Version of the file format. A file with a higher one was written by a newer
// daemon, and a daemon that finds one has no business here.
const Version = 1

// Record is what is kept of an attachment.
type Record struct {
	Version int `json:"version"`
	api.Key
	Network       string     `json:"network,omitempty"`
	Origin        api.Origin `json:"origin"`
	Pod           api.Pod    `json:"pod"`
	Netns         api.Netns  `json:"netns"`
	Hook          string     `json:"hook"`
	State         api.State  `json:"state"`
	FailurePolicy api.Policy `json:"failurePolicy"`
	Queue         uint16     `json:"queue"`
	Created       time.Time  `json:"created"`
	// Called is when the attachment was called for, since boot: a call to end
	// it that is older is about another one.
	Called time.Duration `json:"called,omitempty"`
	// Link is the index of the interface in its netns; 0 where it is not known.
	Link uint32 `json:"link,omitempty"`
	// Traceparent is the trace that the call was part of.
	Traceparent string `json:"traceparent,omitempty"`
	// Warnings are those of the call.
	Warnings []string `json:"warnings,omitempty"`
	// Annotations are those of the call. They are not changed.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Labels are those of the pod, nil if they have not come. The map is not changed.
	Labels map[string]string `json:"labels,omitzero"`
	// Settled is by what flows are settled in the netns, nil where that is not known.
	Settled *Settled `json:"settled,omitempty"`
	// Programs are those that run in the netns. The list is not changed.
	Programs []Program `json:"programs,omitempty"`
	// BootID is the kernel's name of the time between two boots. What was
	// recorded under another one has ended with it.
	BootID string `json:"bootID"`
}

// Settled is by what flows of a netns are settled. It is not changed.
type Settled struct {
	Generation uint8 `json:"generation"`
	// Rules is a digest of what decided about them, empty where none is known.
	Rules string `json:"rules,omitempty"`
}

// Program is a program that runs for a pod, and goes on when the daemon ends.
type Program struct {
	// Name is the inspector's.
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Start is when the process began, in ticks since boot.
	Start uint64 `json:"start"`
	// Group is the name of its control group.
	Group string `json:"group"`
	// Ready says that packets go to it.
	Ready bool `json:"ready"`
	// Digest identifies what was started.
	Digest   string `json:"digest"`
	Restarts uint64 `json:"restarts,omitempty"`
}

// ErrNewer is in the chain of Load's error when a newer daemon has written a
// file.
var ErrNewer = errors.New("written by a newer nsqueued")

// ErrInUse is in the chain of Open's error when another process has the
// directory open.
var ErrInUse = errors.New("another nsqueued uses this state directory")

// ErrNotLocked says that the directory is not this process' so far.
var ErrNotLocked = errors.New("the state directory is not locked by this nsqueued")

// Store is the directory, for one process at a time. Calls about different
// keys may be concurrent.
type Store struct {
	dir    string
	bootID string

	mu   sync.Mutex
	lock *os.File // nil before Lock
	// changes are those that wait for the lock; nil once it is there.
	changes *changes
	// left are the files that could not be removed and would mislead the next
	// daemon.
	left map[string]bool
}

// Directory has the files, in the directory that the daemon is told.
const Directory = "attachments"

const suffix = ".json"

// OpenWithin is [Open] for a directory that another process may have open, which is
// about to end.
func OpenWithin(ctx context.Context, stateDir string, limit time.Duration) (*Store, error) {
	s, err := OpenUnlocked(stateDir)
	if err != nil {
		return nil, err
	}
	if err := s.Lock(ctx, limit); err != nil {
		return nil, err
	}
	return s, nil
}

// Open makes the directory below stateDir where it is missing, and locks it
// until Close. One that is there may be read-only.
func Open(stateDir string) (*Store, error) {
	s, err := OpenUnlocked(stateDir)
	if err != nil {
		return nil, err
	}
	if err := s.tryLock(); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenUnlocked is [Open] without the lock, for a process that may have to leave the
// directory to another one. It reads what is there. All that it would change waits for
// [Store.Lock], but for the mark of an orderly end: to remove that is always safe.
func OpenUnlocked(stateDir string) (*Store, error) {
	dir := filepath.Join(stateDir, Directory)
	if err := os.MkdirAll(stateDir, 0o711); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	bootID, err := boottime.ID()
	if err != nil {
		return nil, err
	}
	return &Store{
		dir: dir, bootID: bootID, changes: newChanges(), left: make(map[string]bool),
	}, nil
}

// Close lets another process use the directory.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// path of a key's file. A valid key holds neither '/' nor, in its first part,
// '@', so no two keys share a name.
func (s *Store) path(k api.Key) string {
	return filepath.Join(s.dir, k.ContainerID+"@"+k.Ifname+suffix)
}

// Save writes the record in place of an older one of its key.
func (s *Store) Save(r Record) error {
	r.Version, r.BootID = Version, s.bootID
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := s.write(s.path(r.Key), append(b, '\n')); err != nil {
		return fmt.Errorf("save state of %s: %w", r.Key, err)
	}
	return nil
}

// Remove deletes a key's record; a missing one is success.
func (s *Store) Remove(k api.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != nil {
		s.changes.remove(s.path(k))
		return nil
	}
	_, err := s.removeLocked(s.path(k))
	return err
}

// Tidy removes what could not be removed before and was not written since.
func (s *Store) Tidy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for path := range s.left {
		_, err := s.removeLocked(path)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// write puts the content in the place of an older one, which stays where that
// fails.
func (s *Store) write(path string, b []byte) error {
	s.mu.Lock()
	if s.changes != nil {
		s.changes.write(path, b)
		s.mu.Unlock()
		return nil
	}
	left := s.left[path]
	delete(s.left, path) // before Tidy can take the new file for it
	s.mu.Unlock()
	err := replace(path, b)
	if err != nil && left {
		s.mu.Lock()
		s.left[path] = true
		s.mu.Unlock()
	}
	return err
}

func replace(path string, b []byte) error {
	return atomicfile.Replace(path, b, &atomicfile.Options{Mode: 0o600})
}

// removeLocked deletes a file and reports whether it was there.
func (s *Store) removeLocked(path string) (bool, error) {
	// A read-only file system says so of a missing file, too.
	_, err := os.Lstat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		delete(s.left, path)
		return err == nil, nil
	}
	s.left[path] = true
	return true, err
}

// Contents is what Load finds.
type Contents struct {
	// Records of this boot.
	Records []Record
	// Stale are the keys of records of an earlier boot.
	Stale []api.Key
	// Damaged says what is wrong with each file that cannot be read. They have
	// been renamed, so that the next daemon does not find them.
	Damaged []error
}

// Load reads all files. Its error matches [ErrNewer] where one of them is of a
// newer daemon; nothing is changed then. Those that were read ahead and are the same
// still it does not read again.
func (s *Store) Load(ahead *Ahead) (Contents, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return Contents{}, err
	}
	var c Contents
	var damaged []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		r, err := ahead.load(path)
		switch {
		case errors.Is(err, ErrNewer):
			return Contents{}, err
		case err != nil:
			c.Damaged = append(c.Damaged, err)
			damaged = append(damaged, path)
		case r.BootID != s.bootID:
			c.Stale = append(c.Stale, r.Key)
		default:
			c.Records = append(c.Records, r)
		}
	}
	c.Damaged = append(c.Damaged, s.putAside(damaged)...)
	return c, nil
}

// putAside renames damaged files, so that no one takes them for records.
func (s *Store) putAside(paths []string) (errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range paths {
		if s.changes != nil {
			s.changes.putAside(path)
			continue
		}
		if err := putAside(path); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func putAside(path string) error { return os.Rename(path, path+".damaged") }

// Orderly is the name of the file by which a daemon says that it has answered
// every packet it had received.
const Orderly = "orderly"

// MarkOrderly records that this daemon ends in order. It does not wait for the disk: after
// a power cut no packet is left, and nobody asks.
func (s *Store) MarkOrderly() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != nil {
		return ErrNotLocked
	}
	path := filepath.Join(s.dir, Orderly)
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		delete(s.left, path)
	}
	return err
}

// TakeOrderly reports whether the daemon before this one ended in order, and
// forgets it: the answer is about one daemon. Where it cannot be forgotten, the
// answer is no, because it may be about an earlier one.
func (s *Store) TakeOrderly() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	there, err := s.removeLocked(filepath.Join(s.dir, Orderly))
	return there && err == nil, err
}

func load(path string) (Record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	r, err := parse(b)
	if err != nil {
		return Record{}, fmt.Errorf("state file %s: %w", path, err)
	}
	return r, nil
}

func parse(b []byte) (Record, error) {
	// The version first: of a newer file, nothing else is known.
	var format struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &format); err != nil {
		return Record{}, err
	}
	switch v := format.Version; {
	case v > Version:
		return Record{}, fmt.Errorf("version %d, this daemon knows up to %d: %w",
			v, Version, ErrNewer)
	case v < 1:
		return Record{}, fmt.Errorf("version %d: want 1 to %d", v, Version)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, err
	}
	if err := r.Key.Validate(); err != nil {
		return Record{}, err
	}
	return r, r.FailurePolicy.Validate()
}
