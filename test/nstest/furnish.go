// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// furnish turns fresh namespaces into a node: private mounts, its own /proc,
// /sys, /run, /etc/cni and /var/lib/cni, and lo.
func furnish() error {
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mountKernelTrees(); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{"/etc/cni", "/var/lib/cni"} {
		if err := ownDirectory(dir); err != nil {
			return err
		}
	}
	if err := ownTemporary(); err != nil {
		return err
	}
	// A user's PATH often lacks the directories of nft and iptables.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	return os.WriteFile(nodeMark, nil, 0o444)
}

// mountKernelTrees mounts a /proc and a /sys that show the node. The control
// groups below /sys are not the node's own and stay what they were.
func mountKernelTrees() error {
	const cgroups = "/sys/fs/cgroup"
	const restricted = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := mount("proc", "/proc", "proc", restricted, ""); err != nil {
		return err
	}
	tree, treeErr := unix.OpenTree(unix.AT_FDCWD, cgroups,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err := mount("sysfs", "/sys", "sysfs", restricted, ""); err != nil {
		return err
	}
	if treeErr != nil {
		return nil // nothing there to keep
	}
	defer unix.Close(tree)
	err := unix.MoveMount(tree, "", unix.AT_FDCWD, cgroups, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("move_mount "+cgroups, err)
	}
	return nil
}

// ownDirectory gives the node an empty dir. Where the machine has none, it is
// made in an overlay over the parent, so that the machine never sees it.
func ownDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return mount("tmpfs", dir, "tmpfs", 0, "mode=755")
	}
	parent := filepath.Dir(dir)
	layer := filepath.Join("/run/nstest-layer", strings.ReplaceAll(parent, "/", "_"))
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", parent, upper, work)
	if err := mount("overlay", parent, "overlay", 0, options); err != nil {
		return fmt.Errorf("%w (not needed where %s exists)", err, dir)
	}
	return os.Mkdir(dir, 0o755)
}

// OwnDirectory gives the node an empty directory for the rest of its life,
// whatever the machine has there.
func OwnDirectory(tb testing.TB, dir string) {
	tb.Helper()
	if err := ownDirectory(dir); err != nil {
		tb.Fatal(err)
	}
}

// ownTemporary puts temporary files where they vanish with the node.
func ownTemporary() error {
	const dir = "/run/tmp"
	if err := os.Mkdir(dir, 0o777|os.ModeSticky); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", dir)
}

func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return &os.PathError{Op: "mount " + fstype, Path: target, Err: err}
	}
	return nil
}

// linkUp sets a link of the calling thread's netns up.
func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}
