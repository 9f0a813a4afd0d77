// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os/exec"
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
	exited chan error
}

// Launch starts a program in the node. The environment is added to the node's.
func (n *Node) Launch(env []string, name string, args ...string) (*Process, error) {
	p := &Process{name: n.Name + "'s " + name, cmd: n.Command(name, args...)}
	p.cmd.Env = append(append([]string{}, n.env...), env...)
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

// PID is the program's process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

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
