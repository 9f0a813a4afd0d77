// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrHidden is in the chain of [Census.Hidden].
var ErrHidden = errors.New("nsqueued cannot see the processes of the node")

// TraceNeeded says what it takes to look into processes of the node.
const TraceNeeded = "CAP_SYS_PTRACE and an AppArmor profile that allows ptrace are needed"

// initialPIDNamespace is the inode of the PID namespace that the kernel booted
// with (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xEFFFFFFC

// Census is what keeps network namespaces alive, as far as it is seen from here:
// the processes that are in them, and the mounts that process 1 sees. Descriptors
// are not counted. Whether a process runs in one netns is asked of [ProcessIn].
type Census struct {
	// Hidden says why there may be more than was seen; nil where all was seen. What
	// was not found may be there all the same then.
	Hidden error

	paths map[inode]string
}

// inode is where a namespace is on the kernel's file system of namespaces.
type inode struct{ dev, ino uint64 }

// Take looks at all processes. Only in the PID namespace that has all of them
// are they all seen: all is its inode, 0 means the kernel's initial one. Those that are
// ours keep no netns alive.
func Take(all uint64, ours func(pid int) bool) *Census {
	c := &Census{paths: make(map[inode]string)}
	c.hide(blind(all))
	entries, err := os.ReadDir("/proc")
	c.hide(err)
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || ours(int(pid)) {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if err := c.process(dir, pid); err != nil {
			c.hide(fmt.Errorf("the netns of process %d: %w (%s)", pid, err, TraceNeeded))
		}
	}
	c.hide(c.mounts())
	return c
}

// hide notes the first reason.
func (c *Census) hide(err error) {
	if err != nil && c.Hidden == nil {
		c.Hidden = fmt.Errorf("%w: %w", ErrHidden, err)
	}
}

// Find returns a path under which the network namespace with this device and
// inode is seen; empty for none. The caller checks the identity of what is opened
// there: inodes are used again.
func (c *Census) Find(dev, ino uint64) string { return c.paths[inode{dev, ino}] }

// process notes the netns of a process.
func (c *Census) process(dir string, pid uint64) error {
	err := c.note(filepath.Join(dir, "ns/net"))
	switch {
	case err == nil:
		return nil
	case ended(err):
		// Its first thread has ended: it is a zombie, or others go on.
		tasks, _ := filepath.Glob(filepath.Join(dir, "task/*/ns/net"))
		for _, path := range tasks {
			_ = c.note(path)
		}
		return nil
	case neverInPod(dir, pid):
		return nil
	}
	return err
}

func (c *Census) note(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	c.paths[inode{st.Dev, st.Ino}] = path
	return nil
}

// ProcessIn returns the path under which the network namespace with this device
// and inode is seen because some process is in it; empty if none is seen. There
// may be others all the same: a [Census] says so.
//
// It asks what runs in one netns at this moment. A [Census] asks what keeps netns
// alive, for which mounts count, too, and looks at all of them once: at a DEL, a
// netns that is still mounted has no process, and yet is kept. Processes that are ours do
// not count.
func ProcessIn(dev, ino uint64, ours func(pid int) bool) (string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if pid, err := strconv.ParseUint(e.Name(), 10, 32); err != nil || ours(int(pid)) {
			continue
		}
		path := filepath.Join("/proc", e.Name(), "ns/net")
		var st unix.Stat_t
		// Processes end meanwhile.
		if unix.Stat(path, &st) == nil && st.Dev == dev && st.Ino == ino {
			return path, nil
		}
	}
	return "", nil
}

// ended says that a process is not there any more.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// blind says why processes may be missing in /proc altogether.
func blind(all uint64) error {
	if all == 0 {
		all = initialPIDNamespace
	}
	var st unix.Stat_t
	// A /proc of another PID namespace has no self.
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return fmt.Errorf("/proc is that of another PID namespace: %w", err)
	}
	if st.Ino != all {
		return errors.New(ownNamespace(mayTrace()))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if option := hidepid(string(mounts)); option != "" && !mayTrace() {
		return fmt.Errorf("/proc is mounted with %s, and CAP_SYS_PTRACE is missing", option)
	}
	return nil
}

// ownNamespace says what is missing in a PID namespace that is not the node's.
func ownNamespace(mayTrace bool) string {
	text := "it runs in a PID namespace of its own (hostPID: true ends that)"
	if !mayTrace {
		text += ", and without CAP_SYS_PTRACE, which it then needs as well"
	}
	return text
}

// hidepid returns the option by which the uppermost /proc hides processes of
// other users; empty for none.
func hidepid(mountinfo string) string {
	option := ""
	for line := range strings.Lines(mountinfo) {
		mount, super, _ := strings.Cut(line, " - ")
		fields, options := strings.Fields(mount), strings.Fields(super)
		if len(fields) < 5 || fields[4] != "/proc" || len(options) < 3 {
			continue
		}
		option = ""
		for o := range strings.SplitSeq(options[2], ",") {
			if v, ok := strings.CutPrefix(o, "hidepid="); ok && v != "0" && v != "off" {
				option = o
			}
		}
	}
	return option
}

// mayTrace reports whether this process has CAP_SYS_PTRACE, before which hidepid
// hides nothing.
func mayTrace() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil &&
		data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// neverInPod reports that a process is none of a pod's, for sure: the first one
// of all, and threads of the kernel, are in the initial netns. One that has ended
// meanwhile is in none.
func neverInPod(dir string, pid uint64) bool {
	if pid == 1 {
		return true
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return ended(err)
	}
	return isKernelThread(string(stat))
}

// isKernelThread reads the flags in a process's stat file. They come seventh
// after the name, which is in parentheses and may have any in it.
func isKernelThread(stat string) bool {
	const kernelThread = 0x00200000 // PF_KTHREAD
	rest := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(rest) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(rest[6], 10, 64)
	return err == nil && flags&kernelThread != 0
}
