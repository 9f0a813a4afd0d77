// SPDX-License-Identifier: Apache-2.0

// Package atomicfile replaces files that other programs read at any time: they
// see the whole old file or the whole new one, also after a power cut. A power
// cut may leave a temporary file behind.
//
// It starts no goroutine, and imports nothing but the standard library, because
// it is linked into the CNI plugin.
package atomicfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Prefix begins the names of temporary files. Programs that read directories of
// CNI configurations or plugins ignore such names.
const Prefix = ".nsqueue-"

// Step is one of the things that Replace and Remove do one after the other.
type Step string

// The steps, in their order.
const (
	Create  Step = "create"
	Write   Step = "write"
	Chmod   Step = "chmod"
	Sync    Step = "sync"
	Compare Step = "compare"
	Rename  Step = "rename" // for Remove: unlink
	SyncDir Step = "sync directory"
	// RemoveTemporary comes after another step has failed.
	RemoveTemporary Step = "remove temporary file"
)

// Options says how a file is replaced.
type Options struct {
	// Like is the file whose mode and owner the new one gets; nil means Mode, and
	// the owner that new files have.
	Like fs.FileInfo
	// Mode is the mode where Like is nil.
	Mode fs.FileMode
	// Temporary is the name of the temporary file, in the same directory; where it
	// is empty, a name with Prefix is made up.
	Temporary string
	// Compare, if it is set, is called just before the change; its error prevents it.
	Compare func() error
	// Before, if it is set, is called before each step; its error ends the work
	// there. Tests cut the power with it.
	Before func(Step) error
}

// do runs one step.
func (o *Options) do(s Step, f func() error) error {
	if o.Before != nil {
		if err := o.Before(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return f()
}

func (o *Options) compare() error {
	if o.Compare == nil {
		return nil
	}
	return o.Compare()
}

// Replace makes data the content of path, which need not exist.
func Replace(path string, data []byte, o *Options) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return errors.Join(ReplaceIn(dir, filepath.Base(path), data, o), dir.Close())
}

// ReplaceIn is [Replace] for a file of an open directory.
func ReplaceIn(dir *os.Root, name string, data []byte, o *Options) error {
	temporary := cmp.Or(o.Temporary, Prefix+strconv.FormatUint(rand.Uint64(), 36))
	err := write(dir, temporary, data, o)
	if err == nil {
		err = o.do(Rename, func() error { return dir.Rename(temporary, name) })
		if err != nil {
			err = errors.Join(err, removeTemporary(dir, temporary, o))
		}
	}
	if err == nil {
		err = o.do(SyncDir, func() error { return syncDir(dir) })
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", filepath.Join(dir.Name(), name), err)
	}
	return nil
}

// write makes the temporary file, and removes it where a later step fails.
func write(dir *os.Root, temporary string, data []byte, o *Options) error {
	var f *os.File
	err := o.do(Create, func() (err error) {
		f, err = dir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = fill(f, data, o)
	if err == nil {
		err = o.do(Compare, o.compare)
	}
	if err != nil {
		return errors.Join(err, removeTemporary(dir, temporary, o))
	}
	return nil
}

// fill writes the content of the temporary file, and closes it in any case.
func fill(f *os.File, data []byte, o *Options) error {
	err := o.do(Write, func() error {
		_, err := f.Write(data)
		return err
	})
	if err == nil {
		err = o.do(Chmod, func() error { return liken(f, o) })
	}
	if err == nil {
		err = o.do(Sync, f.Sync)
	}
	return errors.Join(err, f.Close())
}

// liken gives the file its owner and then its mode, because a change of owner
// may clear mode bits.
func liken(f *os.File, o *Options) error {
	if o.Like == nil {
		return f.Chmod(o.Mode)
	}
	own, err := f.Stat()
	if err != nil {
		return err
	}
	if want := owner(o.Like); want != owner(own) {
		if err := f.Chown(want[0], want[1]); err != nil {
			return err
		}
	}
	return f.Chmod(o.Like.Mode())
}

// owner returns the user and the group that a file belongs to.
func owner(info fs.FileInfo) [2]int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]int{int(s.Uid), int(s.Gid)}
	}
	return [2]int{-1, -1} // chown leaves it as it is
}

// removeTemporary removes the temporary file after a step that failed.
func removeTemporary(dir *os.Root, temporary string, o *Options) error {
	return o.do(RemoveTemporary, func() error { return dir.Remove(temporary) })
}

// Remove removes path. Of the options it takes Compare and Before.
func Remove(path string, o *Options) error {
	if err := remove(path, o); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func remove(path string, o *Options) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = o.do(Compare, o.compare)
	if err == nil {
		err = o.do(Rename, func() error { return dir.Remove(filepath.Base(path)) })
	}
	if err == nil {
		err = o.do(SyncDir, func() error { return syncDir(dir) })
	}
	return errors.Join(err, dir.Close())
}

// RemoveAbandoned removes the temporary files that power cuts have left in dir.
// The caller sees to it that no process is writing there now.
func RemoveAbandoned(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), Prefix) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// syncDir makes the names in a directory survive a power cut.
func syncDir(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
