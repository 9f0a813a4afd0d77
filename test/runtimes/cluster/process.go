// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
)

// stopTimeout is how long a program may take to stop.
const stopTimeout = time.Minute

// Process is a program that was started in a node.
type Process struct {
	// Log is what it wrote.
	Log chain.Log

	name   string
	cmd    *exec.Cmd
	below  bool // the program is the command's child
	exited chan error
}

// Launch starts a program in the node. The environment is added to the node's.
func (n *Node) Launch(env []string, name string, args ...string) (*Process, error) {
	cmd := n.Command(name, args...)
	cmd.Env = append(append([]string{}, n.env...), env...)
	return start(&Process{name: n.Name + "'s " + name, cmd: cmd, below: n.alone})
}

// Launch starts a program beside the nodes, where the caller is.
func Launch(name string, args ...string) (*Process, error) {
	return start(&Process{name: name, cmd: exec.Command(name, args...)})
}

func start(p *Process) (*Process, error) {
	p.cmd.Stdout, p.cmd.Stderr = &p.Log, &p.Log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.exited = make(chan error, 1)
	go func() { p.exited <- p.cmd.Wait() }()
	return p, nil
}

// Name says what it is.
func (p *Process) Name() string { return p.name }

// PID is the program's process ID, 0 where it has ended or not begun.
func (p *Process) PID() int {
	pid := p.cmd.Process.Pid
	if !p.below {
		return pid
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return child
}

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.below {
		return p.cmd.Process.Signal(s)
	}
	pid := p.PID()
	if pid == 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(pid, s)
}

// Ended reports whether the program has ended.
func (p *Process) Ended() bool { return len(p.exited) > 0 }

// Kill ends the program at once and waits for its end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	p.exited <- <-p.exited
	return nil
}

// Stop ends the program as an init system does (SIGTERM). The exit code is not
// looked at, because not all programs take that for a success.
func (p *Process) Stop() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w\n%s", p.name, err, p.Log.String())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case err := <-p.exited:
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil
		}
		return err
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s still ran after %v: %w\n%s",
			p.name, stopTimeout, <-p.exited, p.Log.String())
	}
}
