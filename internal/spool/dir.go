// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/boottime"
)

// MaxFiles bounds the directory; what would be more is refused. On a tmpfs it
// takes 32 MiB then.
const MaxFiles = 8192

// The beginnings of names that are no entries: a file that is being written,
// and one that is being removed.
const (
	newPrefix   = ".new-"
	takenPrefix = ".taken-"
)

// ErrFull is in the chain of the error of a Write to a directory that has
// [MaxFiles].
var ErrFull = errors.New("the spool is full")

// Dir is a spool directory. Its methods may be called concurrently, by several
// processes too, except for [Dir.Recover].
type Dir struct {
	root *os.Root
}

// Open opens the directory, and creates it where it is missing. It refuses a symbolic
// link, and a directory that another user owns or may write to: the calls in it
// could be another user's.
func Open(path string) (*Dir, error) {
	root, err := openSafe(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(path); err != nil {
			return nil, fmt.Errorf("create spool: %w", err)
		}
		root, err = openSafe(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &Dir{root: root}, nil
}

func makeDir(path string) error {
	if err := api.MakeSocketDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil // another process was faster
}

// openSafe checks the directory after it has opened it, so that no other user can
// replace it in between.
func openSafe(path string) (*os.Root, error) {
	seen, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !seen.IsDir() {
		return nil, fmt.Errorf("%s is not a directory (%s)", path, seen.Mode().Type())
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(seen, opened) {
		err = fmt.Errorf("another program has replaced %s meanwhile", path)
	}
	if err == nil {
		err = checkOwner(path, opened)
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return root, nil
}

func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to another user", path)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("%s: other users may write to it (mode %04o)", path, perm)
	}
	return nil
}

// Discard removes all calls of a spool directory that no daemon will carry out. What is not
// the spool's stays, and so does the directory.
func Discard(path string) error {
	root, err := openSafe(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("discard spool: %w", err)
	}
	d := &Dir{root: root}
	defer d.Close()
	names, err := d.names(0) // all of them
	errs := []error{err}
	for _, n := range names {
		if _, ok := keyOf(n); ok || isUnfinished(n) {
			errs = append(errs, d.root.Remove(n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("discard spool: %w", err)
	}
	return nil
}

// isUnfinished reports whether a file is being written or removed.
func isUnfinished(name string) bool {
	return strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, takenPrefix)
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Write replaces the entry of its key. When it returns, the new entry survives a
// crash of the machine. Where it fails, the older entry is still there.
func (d *Dir) Write(e *Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("spool %s of %s: %w", e.Verb, e.Key, err)
	}
	if err := d.write(e, append(b, '\n')); err != nil {
		return fmt.Errorf("spool %s of %s: %w", e.Verb, e.Key, err)
	}
	return nil
}

func (d *Dir) write(e *Entry, b []byte) error {
	if len(b) > MaxSize {
		return fmt.Errorf("the entry has %d bytes: %d is the limit", len(b), MaxSize)
	}
	// JSON holds nothing but UTF-8: an interface name need not be that.
	if back, err := Parse(b); err != nil || back.Key != e.Key {
		return errors.Join(err, errors.New("the entry cannot be read back"))
	}
	if err := d.checkSpace(e.Key); err != nil {
		return err
	}
	return atomicfile.ReplaceIn(d.root, name(e.Key), b, &atomicfile.Options{
		Mode: 0o600, Temporary: temporaryName(boottime.Now()),
	})
}

// checkSpace says whether there is room for the key's file.
func (d *Dir) checkSpace(key api.Key) error {
	if _, err := d.root.Lstat(name(key)); err == nil {
		return nil
	}
	names, err := d.names(MaxFiles)
	if err == nil && len(names) >= MaxFiles {
		return ErrFull
	}
	return err
}

// names returns up to limit names of files.
func (d *Dir) names(limit int) ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return names, err
}

// List returns the keys that have a file, and the names of files that are not the
// spool's.
func (d *Dir) List() (keys []api.Key, foreign []string, err error) {
	// The bound is on what is written; what is more, such as files that are
	// being written, comes with a later call.
	names, err := d.names(2 * MaxFiles)
	if err != nil {
		return nil, nil, fmt.Errorf("list spool: %w", err)
	}
	for _, n := range names {
		key, ok := keyOf(n)
		switch {
		case ok:
			keys = append(keys, key)
		case !isUnfinished(n):
			foreign = append(foreign, n)
		}
	}
	return keys, foreign, nil
}

// File is an entry as it was read.
type File struct {
	Entry
	raw []byte
}

// Read reads the entry of a key; the error is [fs.ErrNotExist] where there is
// none.
func (d *Dir) Read(key api.Key) (*File, error) {
	b, err := d.readFile(name(key))
	if err != nil {
		return nil, err
	}
	e, err := Parse(b)
	if err == nil && e.Key != key {
		err = fmt.Errorf("its call is for %s", e.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("read spool file %s: %w", name(key), err)
	}
	return &File{Entry: *e, raw: b}, nil
}

func (d *Dir) readFile(file string) ([]byte, error) {
	f, err := d.root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("spool file %s is not a regular file (%s)", file, info.Mode().Type())
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("spool file %s has more than %d bytes", file, MaxSize)
	}
	return b, err
}

// Remove removes the file, unless it has been replaced since it was read. The kernel
// has no call that compares and removes: the file gets another name first, and its
// old one back if it has been replaced.
func (d *Dir) Remove(f *File) error {
	file := name(f.Key)
	taken := takenPrefix + file
	if err := d.root.Rename(file, taken); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	b, err := d.readFile(taken)
	if err == nil && bytes.Equal(b, f.raw) {
		return d.root.Remove(taken)
	}
	return errors.Join(err, d.putBack(taken, file))
}

// putBack gives a taken file its name back; a still newer one wins.
func (d *Dir) putBack(taken, file string) error {
	if err := d.root.Link(taken, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.root.Remove(taken)
}

// abandoned is the age from which on no process is writing a file any more.
const abandoned = time.Minute

// temporaryName returns the name of a file that is being written. It has the process
// and the time at which it began.
func temporaryName(now time.Duration) string {
	return fmt.Sprintf("%s%d-%d", newPrefix, os.Getpid(), now)
}

// isAbandoned reports whether a file with a temporary name was begun long ago, or
// before this boot.
func isAbandoned(name string, now time.Duration) bool {
	_, text, _ := strings.Cut(strings.TrimPrefix(name, newPrefix), "-")
	began, err := strconv.ParseInt(text, 10, 64)
	return err != nil || time.Duration(began) > now || now-time.Duration(began) > abandoned
}

// Recover repairs what killed processes have left half done. Only the daemon calls
// it, before it removes files.
func (d *Dir) Recover() error {
	names, err := d.names(2 * MaxFiles)
	if err != nil {
		return fmt.Errorf("recover spool: %w", err)
	}
	var errs []error
	for _, n := range names {
		if file, ok := strings.CutPrefix(n, takenPrefix); ok {
			errs = append(errs, d.putBack(n, file))
		}
		if strings.HasPrefix(n, newPrefix) && isAbandoned(n, boottime.Now()) {
			errs = append(errs, d.root.Remove(n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("recover spool: %w", err)
	}
	return nil
}
