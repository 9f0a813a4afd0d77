// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes groups of processes that end together, with limits, beside the
// group of the daemon. It works with either version of the kernel's control groups, and
// where a node has both: then version 2 ends the processes, and version 1 limits them.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultMounts is where nodes have their control groups.
const DefaultMounts = "/sys/fs/cgroup"

// controllers that are used, where there are any.
func controllers() []string { return []string{"memory", "pids", "cpu"} }

// Tree has the groups of one daemon. It is safe for concurrent use, for different groups.
type Tree struct {
	name string
	// unified is where version 2 is mounted, empty for nowhere.
	unified string
	// v1 are the mounts of version 1, by controller.
	v1 map[string]string
}

// Open returns the groups below a directory of the name, which need not exist so far.
func Open(mounts, name string) (*Tree, error) {
	t := &Tree{name: name, v1: make(map[string]string)}
	for _, dir := range []string{mounts, filepath.Join(mounts, "unified")} {
		if t.unified == "" && isType(dir, unix.CGROUP2_SUPER_MAGIC) {
			t.unified = dir
		}
	}
	wanted := append(controllers(), "cpuacct")
	if t.unified == "" {
		wanted = append(wanted, "freezer")
	}
	for _, controller := range wanted {
		dir := filepath.Join(mounts, controller)
		if isType(dir, unix.CGROUP_SUPER_MAGIC) {
			t.v1[controller] = dir
		}
	}
	if t.unified == "" && t.v1["freezer"] == "" {
		return nil, fmt.Errorf("%s has neither version 2 of control groups nor the freezer of "+
			"version 1: mount the node's control groups there", mounts)
	}
	return t, nil
}

func isType(dir string, magic int64) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == magic
}

// mounts returns where groups of the tree have directories.
func (t *Tree) mounts() []string {
	var all []string
	if t.unified != "" {
		all = append(all, t.unified)
	}
	for _, dir := range t.v1 {
		all = append(all, dir)
	}
	return all
}

// Groups returns the names of the groups there are, also those of earlier daemons.
func (t *Tree) Groups() ([]string, error) {
	seen := make(map[string]bool)
	var names []string
	for _, mount := range t.mounts() {
		entries, err := os.ReadDir(filepath.Join(mount, t.name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// Remove removes the directory that groups are below, which must be empty. None is success.
func (t *Tree) Remove() error {
	var errs []error
	for _, mount := range t.mounts() {
		errs = append(errs, removeDir(filepath.Join(mount, t.name)))
	}
	return errors.Join(errs...)
}

func removeDir(dir string) error {
	err := unix.Rmdir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("rmdir "+dir, err)
}

// Make makes a group, or takes the one of that name that is there. Limits that the node
// cannot keep are an error; then there is no group.
func (t *Tree) Make(name string, l Limits) (*Group, error) {
	g := t.Group(name)
	for _, mount := range t.mounts() {
		if err := t.makeIn(mount, name); err != nil {
			return nil, errors.Join(err, g.Remove())
		}
	}
	if err := g.limit(l); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// makeIn makes the directory of a group in one hierarchy.
func (t *Tree) makeIn(mount, name string) error {
	parent := filepath.Join(mount, t.name)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if mount == t.unified {
		delegate(mount)
		delegate(parent)
	}
	err := os.Mkdir(filepath.Join(parent, name), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// delegate has the groups below a directory use controllers. Where one is not there,
// the limit that needs it cannot be set, which says so.
func delegate(dir string) {
	for _, controller := range controllers() {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
}

// Group returns the group of a name, whether it is there or not.
func (t *Tree) Group(name string) *Group {
	g := &Group{v1: make(map[string]string)}
	if t.unified != "" {
		g.unified = filepath.Join(t.unified, t.name, name)
	}
	for controller, mount := range t.v1 {
		g.v1[controller] = filepath.Join(mount, t.name, name)
	}
	return g
}

// NameOf makes a name of a group of parts, which may be any text.
func NameOf(parts ...string) string {
	clean := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}
	return strings.Map(clean, strings.Join(parts, "-"))
}
