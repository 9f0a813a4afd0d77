// SPDX-License-Identifier: Apache-2.0

// Package state owns the directory that says which attachments there should
// be: one JSON file each, written atomically. The daemon that starts next
// makes them true again.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
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
	// Traceparent is the trace that the call was part of.
	Traceparent string `json:"traceparent,omitempty"`
	// BootID is the kernel's name of the time between two boots. What was
	// recorded under another one has ended with it.
	BootID string `json:"bootID"`
}

// ErrNewer is in the chain of Load's error when a newer daemon has written a
// file.
var ErrNewer = errors.New("written by a newer nsqueued")

// ErrInUse is in the chain of Open's error when another process has the
// directory open.
var ErrInUse = errors.New("another nsqueued uses this state directory")

// Store is the directory, for one process at a time. Calls about different
// keys may be concurrent.
type Store struct {
	dir    string
	lock   *os.File
	bootID string
}

const suffix = ".json"

// Open makes the directory below stateDir where it is missing, and locks it
// until Close.
func Open(stateDir string) (*Store, error) {
	dir := filepath.Join(stateDir, "attachments")
	if err := os.MkdirAll(stateDir, 0o711); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Close())
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Store{dir: dir, lock: lock, bootID: strings.TrimSpace(string(bootID))}, nil
}

// Close lets another process use the directory.
func (s *Store) Close() error { return s.lock.Close() }

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
	if err := writeAtomically(s.path(r.Key), append(b, '\n')); err != nil {
		return fmt.Errorf("save state of %s: %w", r.Key, err)
	}
	return nil
}

// Remove deletes a key's record; a missing one is success.
func (s *Store) Remove(k api.Key) error {
	if err := os.Remove(s.path(k)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
// newer daemon; nothing is changed then.
func (s *Store) Load() (Contents, error) {
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
		r, err := load(path)
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
	for _, path := range damaged {
		if err := os.Rename(path, path+".damaged"); err != nil {
			c.Damaged = append(c.Damaged, err)
		}
	}
	return c, nil
}

// orderly is the name of the file by which a daemon says that it has answered
// every packet it had received.
const orderly = "orderly"

// MarkOrderly records that this daemon ends in order.
func (s *Store) MarkOrderly() error {
	return writeAtomically(filepath.Join(s.dir, orderly), nil)
}

// TakeOrderly reports whether the daemon before this one ended in order, and
// forgets it: the answer is about one daemon.
func (s *Store) TakeOrderly() (bool, error) {
	err := os.Remove(filepath.Join(s.dir, orderly))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
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

// writeAtomically leaves either the old content or the new one at path,
// whenever the process or the machine stops.
func writeAtomically(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
