// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/atomicfile"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// ErrChanged says that another program has edited a file since it was read.
var ErrChanged = errors.New("another program changed it meanwhile")

// attempts is how often an edit is tried while another program edits the same file.
const attempts = 10

// Installer adds the entry to a directory of CNI configurations, and removes it. It
// has no state between two calls: each begins with what the files say.
type Installer struct {
	// Dir is the directory that the runtime reads, such as /etc/cni/net.d.
	Dir string
	// Entry is what is installed; its type and capabilities need not be set.
	Entry *cnipod.Entry
	// Mode is where the entry goes.
	Mode Mode
	// Network is a network whose own file may be missing so far: its drop-in is written all
	// the same. Only mode DropIn knows it; empty means none.
	Network string
	// Before is that of [atomicfile.Options].
	Before func(atomicfile.Step) error
}

// Install adds the entry to the chain of the active configuration, and returns the
// changes that it made. It ends when there is nothing left to change.
func (i *Installer) Install() (*Plan, error) {
	if i.early() {
		if err := os.MkdirAll(i.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	return i.execute(i.Plan)
}

// early says whether the entry may be written before the network is there.
func (i *Installer) early() bool { return i.Network != "" && i.Mode == DropIn }

// Uninstall removes the entry from all configurations. They are then as if Install
// had never been called, byte for byte.
func (i *Installer) Uninstall() (*Plan, error) { return i.execute(i.PlanUninstall) }

// execute applies plans until one has no changes.
func (i *Installer) execute(plan func() (*Plan, error)) (*Plan, error) {
	unlock, err := i.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var done []Change
	var last error
	for range attempts {
		p, err := plan()
		if err == nil && len(p.Changes) == 0 {
			p.Changes = append(p.Changes, done...)
			return p, i.cleanUp(p)
		}
		if err == nil {
			err = i.apply(p, &done)
		}
		if err != nil && !errors.Is(err, ErrChanged) {
			return &Plan{Changes: done}, err
		}
		last = err
	}
	return &Plan{Changes: done}, errors.Join(fmt.Errorf("%s: %w, %d times: find out which one",
		i.Dir, ErrChanged, attempts), last)
}

// lock waits for other processes of nsqueue that edit the directory. It creates no
// file.
func (i *Installer) lock() (unlock func(), err error) {
	d, err := os.Open(i.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoConfig, err)
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = d.Close()
		return nil, &os.PathError{Op: "lock", Path: i.Dir, Err: err}
	}
	return func() { _ = d.Close() }, nil
}

// apply makes the changes of a plan, and adds each one made to done.
func (i *Installer) apply(p *Plan, done *[]Change) error {
	elsewhere := false
	for n := range p.Changes {
		c := &p.Changes[n]
		dir := filepath.Dir(c.Path)
		if err := i.change(c); err != nil {
			return err
		}
		*done = append(*done, *c)
		elsewhere = elsewhere || dir != filepath.Clean(i.Dir)
	}
	if !elsewhere {
		return nil
	}
	return i.Touch()
}

// cleanUp removes the temporary files of earlier processes that were killed; the
// lock is held. It removes directories of drop-ins that are empty and not needed.
func (i *Installer) cleanUp(p *Plan) error {
	networks := p.networks
	for _, c := range p.Changes {
		if filepath.Base(c.Path) == dropInName {
			networks = append(networks, filepath.Dir(c.Path))
		}
	}
	for _, dir := range slices.Concat([]string{i.Dir}, p.dirs, networks) {
		if err := atomicfile.RemoveAbandoned(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if p.Mode != DropIn {
		for _, dir := range networks {
			_ = os.Remove(dir) // fails, as it should, where the directory has other files
		}
	}
	return nil
}

// change makes one change.
func (i *Installer) change(c *Change) error {
	dir := filepath.Dir(c.Path)
	o := &atomicfile.Options{Mode: 0o644, Compare: c.compare, Before: i.Before}
	own := dir != filepath.Clean(i.Dir) && filepath.Base(c.Path) == dropInName
	if own && c.Before == nil {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if c.After == nil {
		return atomicfile.Remove(c.Path, o)
	}
	if c.Before != nil {
		info, err := os.Stat(c.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", c.Path, ErrChanged)
		}
		if err != nil {
			return err
		}
		o.Like = info
	}
	return atomicfile.Replace(c.Path, c.After, o)
}

// compare returns ErrChanged where the file is no longer what it was when it was
// read.
func (c *Change) compare() error {
	f, err := read(c.found)
	switch {
	case errors.Is(err, ErrChanged) && c.Before == nil:
		return nil
	case err != nil:
		return err
	case c.Before == nil, !bytes.Equal(f.text, c.Before):
		return ErrChanged
	case c.Path != c.found && c.Path != f.target:
		return ErrChanged
	}
	return nil
}

// Touch has the runtime read the directory again: it does not watch the other
// directories that its files may be in.
func (i *Installer) Touch() error {
	f, err := os.CreateTemp(i.Dir, atomicfile.Prefix+"*")
	if err != nil {
		return fmt.Errorf("make the runtime read %s again: %w", i.Dir, err)
	}
	name := f.Name() + "-touched"
	err = errors.Join(f.Close(), os.Rename(f.Name(), name))
	return errors.Join(err, os.Remove(name))
}
