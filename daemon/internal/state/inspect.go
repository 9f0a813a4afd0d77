// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Inspect reads what [Open] and [Store.Load] would, and changes nothing. Another process
// may have the directory open. It returns the number of attachments and the errors of the
// damaged files. Its error matches [ErrNewer] as Load's does.
func Inspect(stateDir string) (records int, damaged []error, err error) {
	return new(Ahead).Read(stateDir)
}

// Ahead is what was read of a state directory while another process has it open, for a
// Load that has less to read then. The zero value has read nothing, and so has nil.
type Ahead struct{ files map[string]readFile }

// readFile is the record of a file as it was.
type readFile struct {
	id     fileID
	record Record
}

// fileID tells a file from each other one that has its name before or after it: files are
// replaced, and never written to.
type fileID struct {
	ino     uint64
	size    int64
	changed time.Time
}

// Read is [Inspect]. It reads only what has changed since it was called last.
func (a *Ahead) Read(stateDir string) (records int, damaged []error, err error) {
	dir := filepath.Join(stateDir, Directory)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) { // the first daemon makes it
		_, err = os.ReadDir(stateDir)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, err
	}
	next := make(map[string]readFile, len(entries))
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := a.read(path)
		switch {
		case err == nil:
			records++
			next[path] = f
		case errors.Is(err, ErrNewer):
			return 0, nil, err
		case !errors.Is(err, fs.ErrNotExist): // else it was removed meanwhile
			damaged = append(damaged, err)
		}
	}
	a.files = next
	return records, damaged, nil
}

// load returns the record of a file.
func (a *Ahead) load(path string) (Record, error) {
	if a == nil || a.files == nil {
		return load(path)
	}
	f, err := a.read(path)
	return f.record, err
}

// read reads a file that is not the one that was read under its name before.
func (a *Ahead) read(path string) (readFile, error) {
	id, err := idOf(path)
	if err != nil {
		return readFile{}, err
	}
	if f, ok := a.files[path]; ok && f.id == id {
		return f, nil
	}
	// A file that is replaced in between goes by the ID of the one before, and is read again.
	r, err := load(path)
	return readFile{id: id, record: r}, err
}

func idOf(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{ino: st.Ino, size: st.Size, changed: time.Unix(st.Ctim.Unix())}, nil
}

// HasLabels reports whether a record has labels of its pod. It changes nothing either.
func HasLabels(stateDir string) (bool, error) {
	dir := filepath.Join(stateDir, Directory)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		if r, err := load(filepath.Join(dir, e.Name())); err == nil && r.Labels != nil {
			return true, nil
		}
	}
	return false, err
}
