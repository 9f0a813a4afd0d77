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
// daemon and is left alone.
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
}

// ErrInUse is in the chain of Open's error when another process has the
// directory open.
var ErrInUse = errors.New("another nsqueued uses this state directory")

// Store is the directory, for one process at a time. Calls about different
// keys may be concurrent.
type Store struct {
	dir  string
	lock *os.File
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
	return &Store{dir: dir, lock: lock}, nil
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
	r.Version = Version
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

// Load returns all records that can be read. The error joins what is wrong
// with each of the others; their files stay.
func (s *Store) Load() ([]Record, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var records []Record
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		r, err := load(filepath.Join(s.dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records = append(records, r)
	}
	return records, errors.Join(errs...)
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
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, err
	}
	if r.Version < 1 || r.Version > Version {
		return Record{}, fmt.Errorf("version %d: this daemon knows up to %d", r.Version, Version)
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
