// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a group; zero values are none.
type Limits struct {
	// Memory in bytes. Over it, the kernel kills processes of the group.
	Memory int64
	// CPUWeight is the share of processor time where it is short; others have 100.
	CPUWeight uint64
	// PIDs is how many tasks there may be.
	PIDs int
}

// Usage of a group.
type Usage struct {
	// Memory in bytes; 0 where it is not known.
	Memory int64
	// CPU is the processor time so far.
	CPU time.Duration
	// OOMKills is how many processes were killed because of the limit of memory.
	OOMKills uint64
}

// Group is some processes. Its methods succeed where the group is gone.
type Group struct {
	unified string
	v1      map[string]string
}

// limit sets what is not zero.
func (g *Group) limit(l Limits) error {
	set := func(controller, v2, v1, value string) error {
		path := filepath.Join(g.unified, v2)
		if dir := g.v1[controller]; dir != "" {
			path = filepath.Join(dir, v1)
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("limit %s: %w", controller, err)
		}
		return nil
	}
	var errs []error
	if l.Memory > 0 {
		errs = append(errs,
			set("memory", "memory.max", "memory.limit_in_bytes", strconv.FormatInt(l.Memory, 10)))
		g.endTogether()
	}
	if l.PIDs > 0 {
		errs = append(errs, set("pids", "pids.max", "pids.max", strconv.Itoa(l.PIDs)))
	}
	if l.CPUWeight > 0 {
		weight := strconv.FormatUint(l.CPUWeight, 10)
		if g.v1["cpu"] != "" {
			weight = strconv.FormatUint(max(l.CPUWeight*1024/100, 2), 10)
		}
		errs = append(errs, set("cpu", "cpu.weight", "cpu.shares", weight))
	}
	return errors.Join(errs...)
}

// endTogether has the kernel end all processes where it would end one for memory. Version
// 1 does not have it.
func (g *Group) endTogether() {
	if g.unified != "" && g.v1["memory"] == "" {
		_ = os.WriteFile(filepath.Join(g.unified, "memory.oom.group"), []byte("1"), 0)
	}
}

// Enter has what the calling thread starts by attr begin in the group. In version 1 the
// thread itself enters it, and has to end then. The caller closes what is returned after
// the start.
func (g *Group) Enter(attr *syscall.SysProcAttr) (*os.File, error) {
	for controller, dir := range g.v1 {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return nil, fmt.Errorf("enter group of %s: %w", controller, err)
		}
	}
	if g.unified == "" {
		return nil, nil
	}
	f, err := os.OpenFile(g.unified, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	return f, nil
}

// Kill ends all processes of the group, also those that are being made.
func (g *Group) Kill() error {
	if g.unified != "" {
		err := os.WriteFile(filepath.Join(g.unified, "cgroup.kill"), []byte("1"), 0)
		if err == nil || errors.Is(err, fs.ErrNotExist) && !exists(g.unified) {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if g.v1["freezer"] == "" {
		return g.killEach(g.unified)
	}
	return g.killFrozen()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// killFrozen stops all processes first, so that none can make another one.
func (g *Group) killFrozen() error {
	dir := g.v1["freezer"]
	if !exists(dir) {
		return nil
	}
	state := filepath.Join(dir, "freezer.state")
	err := os.WriteFile(state, []byte("FROZEN"), 0)
	return errors.Join(err, g.killEach(dir), os.WriteFile(state, []byte("THAWED"), 0))
}

func (g *Group) killEach(dir string) error {
	pids, err := processes(dir)
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGKILL); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, os.NewSyscallError("kill", e))
		}
	}
	return err
}

// Processes returns those of the group.
func (g *Group) Processes() ([]int, error) {
	dir := g.unified
	if dir == "" {
		dir = g.v1["freezer"]
	}
	return processes(dir)
}

func processes(dir string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		pid, e := strconv.Atoi(field)
		if e == nil && pid > 0 { // 0: not in our PID namespace
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// Remove removes the group; it fails with EBUSY while there are processes.
func (g *Group) Remove() error {
	var errs []error
	if g.unified != "" {
		errs = append(errs, removeDir(g.unified))
	}
	for _, dir := range g.v1 {
		errs = append(errs, removeDir(dir))
	}
	return errors.Join(errs...)
}

// Usage returns what the group uses.
func (g *Group) Usage() (Usage, error) {
	var u Usage
	var err error
	if dir := g.v1["memory"]; dir != "" {
		u.Memory, err = number(filepath.Join(dir, "memory.usage_in_bytes"))
		u.OOMKills = field(filepath.Join(dir, "memory.oom_control"), "oom_kill")
	} else {
		u.Memory, err = number(filepath.Join(g.unified, "memory.current"))
		u.OOMKills = field(filepath.Join(g.unified, "memory.events"), "oom_kill")
	}
	if dir := g.v1["cpuacct"]; dir != "" {
		var ns int64
		ns, e := number(filepath.Join(dir, "cpuacct.usage"))
		u.CPU, err = time.Duration(ns), errors.Join(err, e)
	} else {
		u.CPU = time.Duration(field(filepath.Join(g.unified, "cpu.stat"), "usage_usec")) *
			time.Microsecond
	}
	return u, err
}

// number reads a file with one; 0 where there is no such file.
func number(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
}

// field reads one of a file with lines of a name and a number; 0 where there is none.
func field(path, name string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}
