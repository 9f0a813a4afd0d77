// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// nodeMark exists inside a node and nowhere else.
	nodeMark = "/run/nstest-node"
	// initEnv tells the program that it is to be the init of a new node.
	initEnv = "NSTEST_INIT"
)

// Enter returns nil inside a throw-away node. Elsewhere it makes one, runs this
// program in it again with the same arguments, passes signals on, and exits
// with its exit code; it then returns only where that cannot be done. Call it
// first thing in main.
//
// When this process dies, by whatever signal, the kernel ends every process of
// the node and frees its namespaces and mounts.
func Enter() error {
	if _, err := os.Stat(nodeMark); err == nil {
		return nil
	}
	if os.Getenv(initEnv) != "" && os.Getpid() == 1 {
		return runInit()
	}
	return runNode()
}

// runNode starts the node's init and waits for it.
func runNode() error {
	// The parent-death signal is tied to this very thread.
	runtime.LockOSThread()
	cmd := again()
	cmd.Env = append(os.Environ(), initEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	code, err := runToEnd(cmd)
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	// Not os.Exit: under the race detector that takes a second.
	unix.Exit(code)
	return nil
}

// runInit is PID 1 of the node: it furnishes the node, starts the program
// proper, reaps what that leaves behind, and ends with it.
func runInit() error {
	if err := furnish(); err != nil {
		return fmt.Errorf("furnish node: %w", err)
	}
	if err := os.Unsetenv(initEnv); err != nil {
		return err
	}
	cmd := again()
	signals := forwarded()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start program in node: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case pid == cmd.Process.Pid:
			unix.Exit(exitCode(status))
		}
	}
}

// again is this very program with its arguments.
func again() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func forwarded() chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return c
}

// runToEnd runs cmd, passes signals on to it, and returns its exit code.
func runToEnd(cmd *exec.Cmd) (int, error) {
	signals := forwarded()
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-done:
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				return 0, err
			}
			return exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
