// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// SupervisorConfig says how a supervisor runs in a container.
type SupervisorConfig struct {
	// Program is nsqueued's.
	Program string
	// RuntimeDir is the container's own: no other process has what is in it.
	RuntimeDir string
	// Flags are the supervisor's, besides its runtime directory, and Args its daemon's.
	Flags, Args []string
	// Env is added to the environment.
	Env []string
	// HostPID leaves it in the PID namespace of the node.
	HostPID bool
}

// Container is a supervisor with its daemon in mount and PID namespaces of their own,
// as in a container: the supervisor is process 1, and its death ends the daemon, unless
// it is in the PID namespace of the node. The
// node's mounts appear in it. Its methods must not be called concurrently.
type Container struct {
	// Log is what supervisor and daemon wrote.
	Log Log

	runtimeDir string
	cmd        *exec.Cmd
	exited     chan error
}

// furnish makes the container of its new namespaces, and becomes the supervisor.
const furnish = `mount --make-rslave / && mount -t proc proc /proc &&
	mount -t tmpfs tmpfs "$0" && exec "$@"`

// StartContainer returns when the supervisor is started; it may not serve yet.
func StartContainer(c SupervisorConfig) (*Container, error) {
	if err := os.MkdirAll(c.RuntimeDir, 0o711); err != nil {
		return nil, err
	}
	argv := slices.Concat([]string{
		"-c", furnish, c.RuntimeDir, c.Program, "supervise",
		"--runtime-dir", c.RuntimeDir,
	}, c.Flags, []string{"--"}, c.Args)
	d := &Container{
		runtimeDir: c.RuntimeDir, cmd: exec.Command("sh", argv...), exited: make(chan error, 1),
	}
	d.cmd.Env = append(os.Environ(), c.Env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.Log, &d.Log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if !c.HostPID {
		d.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start container: %w", err)
	}
	go func() { d.exited <- d.cmd.Wait() }()
	return d, nil
}

// PID is the supervisor's in the node.
func (c *Container) PID() int { return c.cmd.Process.Pid }

// Signal sends a signal to the supervisor.
func (c *Container) Signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

// Ended reports whether the supervisor has ended.
func (c *Container) Ended() bool { return len(c.exited) > 0 }

// Wait waits for the end of the supervisor and returns its error, as [exec.Cmd.Wait]
// does.
func (c *Container) Wait() error {
	timer := time.NewTimer(nstest.Patient(stopTimeout))
	defer timer.Stop()
	select {
	case err := <-c.exited:
		c.exited <- err // for the next one that asks
		return err
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		return fmt.Errorf("the supervisor still ran after %v: %w", stopTimeout, <-c.exited)
	}
}

// Stop ends the supervisor as a runtime does (SIGTERM), and fails if it does not end
// well.
func (c *Container) Stop() error {
	if err := c.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return c.Wait()
}

// Kill ends all processes of the container at once (SIGKILL).
func (c *Container) Kill() error {
	if err := c.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if err := c.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			return err
		}
	}
	return nil
}

// Role is what the supervisor is to those that it shares its hand-over directory with;
// empty before it says so.
func (c *Container) Role() string {
	own := fmt.Sprintf("/proc/%d/root%s/role.json", c.PID(), c.runtimeDir)
	text, err := os.ReadFile(own)
	if err != nil {
		return ""
	}
	var report struct{ Role string }
	if json.Unmarshal(text, &report) != nil {
		return ""
	}
	return report.Role
}

// Daemon returns the process ID in the node of the supervisor's daemon, 0 where none
// runs. One that is prepared and does not serve yet counts.
func (c *Container) Daemon() (int, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range processes {
		if parent(dir) != c.PID() {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && bytes.Contains(line, []byte("\x00--config\x00")) {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, nil
}

// parent returns the parent of a process that runs, 0 where it does not.
func parent(dir string) int {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	// PID (NAME) STATE PARENT, where the name may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	pid, _ := strconv.Atoi(fields[1])
	return pid
}
