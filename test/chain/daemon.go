// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// How long the daemon may take; what is longer is a bug.
const (
	startTimeout = time.Minute
	stopTimeout  = time.Minute
)

// DaemonConfig says how nsqueued is run. The zero value of a field means the
// daemon's default.
type DaemonConfig struct {
	// Bin is the directory of nsqueued.
	Bin string
	// Socket and StateDir are its paths inside the node.
	Socket, StateDir string
	// Hook is auto, nft or kmod.
	Hook string
	// Policy is for attach requests that name none.
	Policy api.Policy
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// Args are further flags.
	Args []string
	// Wrap is put in front of the command line, such as a supervisor.
	Wrap []string
}

// Daemon is a running nsqueued. Its methods must not be called concurrently.
type Daemon struct {
	// Client talks to it.
	Client *api.Client
	// Log is what it wrote, over all restarts.
	Log Log

	config DaemonConfig
	cmd    *exec.Cmd
	exited chan error
}

// NewDaemon prepares a daemon that is started by [Daemon.Start].
func NewDaemon(c DaemonConfig) *Daemon {
	if c.Socket == "" {
		c.Socket = api.DefaultSocket
	}
	return &Daemon{Client: api.NewClient(c.Socket), config: c}
}

// Socket returns the path of the API's socket.
func (d *Daemon) Socket() string { return d.config.Socket }

// Start runs the daemon and returns when its API answers.
func (d *Daemon) Start(ctx context.Context) error {
	argv := append(append([]string{}, d.config.Wrap...), d.commandLine()...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &d.Log, &d.Log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nsqueued: %w", err)
	}
	d.cmd, d.exited = cmd, make(chan error, 1)
	go func(exited chan<- error) { exited <- cmd.Wait() }(d.exited)

	ready := nstest.Poll(startTimeout, func() bool {
		if len(d.exited) > 0 {
			return true
		}
		s, err := d.Client.Status(ctx)
		return err == nil && s.PID != 0 || ctx.Err() != nil
	})
	switch {
	case len(d.exited) > 0:
		return fmt.Errorf("start nsqueued: it ended: %w\n%s", <-d.exited, d.Log.String())
	case ctx.Err() != nil || !ready:
		return errors.Join(fmt.Errorf("start nsqueued: no answer at %s\n%s",
			d.config.Socket, d.Log.String()), d.Kill())
	}
	return nil
}

func (d *Daemon) commandLine() []string {
	argv := []string{filepath.Join(d.config.Bin, "nsqueued"), "--socket", d.config.Socket}
	for _, f := range [][2]string{
		{"--state-dir", d.config.StateDir},
		{"--hook", d.config.Hook},
		{"--failure-policy", string(d.config.Policy)},
		{"--log-level", d.config.LogLevel},
	} {
		if f[1] != "" {
			argv = append(argv, f[0], f[1])
		}
	}
	return append(argv, d.config.Args...)
}

// SetArgs replaces the further flags of the next start.
func (d *Daemon) SetArgs(args ...string) { d.config.Args = args }

// PID returns the daemon's process ID in the node.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop ends the daemon as an init system does (SIGTERM) and fails if it does
// not end well.
func (d *Daemon) Stop() error {
	if err := d.end(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop nsqueued: %w\n%s", err, d.Log.String())
	}
	return nil
}

// Kill ends the daemon at once (SIGKILL).
func (d *Daemon) Kill() error {
	err := d.end(syscall.SIGKILL)
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func (d *Daemon) end(s syscall.Signal) error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(s); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case err := <-d.exited:
		d.cmd = nil
		return err
	case <-timer.C:
		_ = d.cmd.Process.Kill()
		err := <-d.exited
		d.cmd = nil
		return fmt.Errorf("it still ran %v after %v: %w", stopTimeout, s, err)
	}
}
