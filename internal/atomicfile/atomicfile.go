// SPDX-License-Identifier: Apache-2.0

// Package atomicfile replaces files that other programs read at any time: they
// see the old file or the new one, whole, also after a power cut. It starts no
// goroutine, and leaves nothing behind but, after a power cut, a file whose
// name begins with Prefix.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Prefix begins the names of the files that are being written. Nothing that
// reads directories of CNI configurations or plugins cares for such names.
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
	// Tidy removes the new file after another step has failed.
	Tidy Step = "tidy"
)

// Options says how a file is replaced.
type Options struct {
	// Like is the file whose mode and owner the new one gets; nil means Mode, and
	// the owner that new files have.
	Like fs.FileInfo
	// Mode is the mode where Like is nil.
	Mode fs.FileMode
	// Compare is asked last before the change is made; its error prevents it.
	Compare func() error
	// Before, if it is set, is called before each step, and its error ends the
	// work there. That is how tests cut the power.
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
	dir := filepath.Dir(path)
	var f *os.File
	err := o.do(Create, func() (err error) {
		f, err = os.CreateTemp(dir, Prefix+"*")
		return err
	})
	if err != nil {
		return fmt.Errorf("write beside %s: %w", path, err)
	}
	if err := fill(f, data, o); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), tidy(f.Name(), o))
	}
	if err := o.do(Compare, o.compare); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), tidy(f.Name(), o))
	}
	if err := o.do(Rename, func() error { return os.Rename(f.Name(), path) }); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), tidy(f.Name(), o))
	}
	return o.do(SyncDir, func() error { return syncDir(dir) })
}

// fill writes the new file, and closes it in any case.
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
	return [2]int{-1, -1} // which chown takes for: leave it
}

// tidy removes what a failed step has left.
func tidy(path string, o *Options) error {
	return o.do(Tidy, func() error { return os.Remove(path) })
}

// Remove removes path. Of the options it takes Compare and Before.
func Remove(path string, o *Options) error {
	if err := o.do(Compare, o.compare); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	if err := o.do(Rename, func() error { return os.Remove(path) }); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return o.do(SyncDir, func() error { return syncDir(filepath.Dir(path)) })
}

// Clean removes what power cuts have left in dir. Whoever calls it must know
// that nobody is writing there now.
func Clean(dir string) error {
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
