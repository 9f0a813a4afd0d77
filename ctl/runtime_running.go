// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runningPrograms asks processes of the node for the versions of their programs. That is
// the version that serves: the program on the disk may be a newer one, and in a container
// there is none.
type runningPrograms struct {
	proc string // where the proc file system is mounted
	// node is a process whose mount and user namespaces are the node's.
	node string
}

// runningOn returns the processes of a node whose root is at a path. Process 1 is the node's
// own where its processes are seen at all.
func runningOn(root string) *runningPrograms {
	return &runningPrograms{proc: filepath.Join("/", root, "proc"), node: "1"}
}

// ask returns what the programs of all running processes of a name say of their versions.
// Processes that may not be asked, or not be looked at, are left out.
func (r *runningPrograms) ask(ctx context.Context, name string) []string {
	entries, err := os.ReadDir(r.proc)
	if err != nil {
		return nil
	}
	var said []string
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(r.proc, e.Name(), "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		if text, err := r.version(ctx, e.Name(), name); err == nil {
			said = append(said, text)
		}
	}
	return said
}

// errNotAsked says that a process is not one whose program may be run.
var errNotAsked = errors.New("not a program of the node")

// version runs the program of a process in the process' own root. The directory of the
// process is held open, so that all is about one process, though its number may be
// another one's by then.
func (r *runningPrograms) version(ctx context.Context, pid, name string) (string, error) {
	dir, err := os.OpenFile(filepath.Join(r.proc, pid), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	held := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if err := r.trust(held); err != nil {
		return "", err
	}
	program, err := os.Open(held + "/exe")
	if err != nil {
		return "", err
	}
	defer program.Close()
	if err := trustFile(program); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", "--version")
	cmd.Args[0] = name // programs of many names go by it
	cmd.ExtraFiles = []*os.File{program}
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.WaitDelay = time.Second
	if !sameFile(held+"/root", "/") {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: held + "/root"}
	}
	out, err := cmd.Output()
	return string(out), err
}

// trust refuses a process that is not the node's own: any pod could call one containerd.
// Those of root, or of this user, outside of all containers are trusted.
func (r *runningPrograms) trust(process string) error {
	for _, ns := range []string{"ns/mnt", "ns/user"} {
		if !sameFile(filepath.Join(process, ns), filepath.Join(r.proc, r.node, ns)) {
			return errNotAsked
		}
	}
	info, err := os.Stat(process)
	if err != nil {
		return err
	}
	return trustOwner(info)
}

// trustFile refuses a program that others than root, or this user, could have written.
func trustFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return errNotAsked
	}
	return trustOwner(info)
}

func trustOwner(info os.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid != 0 && stat.Uid != uint32(os.Geteuid()) {
		return errNotAsked
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
