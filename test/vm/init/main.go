// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

// Command init is the first process of a test guest: it makes the file systems,
// loads the modules that the image lists, runs the programs one by one and says
// on the second serial port how each of them ended:
//
//	@@ run NAME
//	@@ exit NAME CODE
//	@@ done
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type program struct {
	Name    string
	Timeout time.Duration
	Args    []string
	Env     []string
}

func main() {
	// Without a port there is no reader: the host sees the guest stop.
	if port, err := openPort(); err == nil {
		if err := run(port); err != nil {
			fmt.Fprintln(port, "init:", err)
		}
		// What was written must be out before the machine stops.
		_ = unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// openPort returns the second serial port, without the terminal's line endings.
func openPort() (*os.File, error) {
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return nil, err
	}
	name := "/dev/ttyS1"
	if runtime.GOARCH == "arm64" { // where the console is no port of this kind
		name = "/dev/ttyS0"
	}
	port, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	settings, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	settings.Oflag &^= unix.OPOST
	settings.Lflag &^= unix.ECHO | unix.ICANON
	return port, unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, settings)
}

func run(port *os.File) error {
	if err := mount(); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	list, err := os.ReadFile("/etc/programs.json")
	if err != nil {
		return err
	}
	var programs []program
	if err := json.Unmarshal(list, &programs); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/bin:/usr/sbin:/usr/bin"); err != nil {
		return err
	}
	if err := os.Setenv("HOME", "/root"); err != nil {
		return err
	}
	for _, p := range programs {
		fmt.Fprintf(port, "@@ run %s\n", p.Name)
		fmt.Fprintf(port, "@@ exit %s %d\n", p.Name, p.run(port))
	}
	if err := scanLeaks(); err != nil {
		return err
	}
	fmt.Fprintln(port, "@@ done")
	return nil
}

// scanLeaks copies what kmemleak finds into the kernel log, where the host
// looks. Only a debug kernel has it.
func scanLeaks() error {
	const file = "/sys/kernel/debug/kmemleak"
	_ = unix.Mount("debugfs", "/sys/kernel/debug", "debugfs", 0, "")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	// A block is a leak only if two scans see it unchanged.
	for range 2 {
		if err := os.WriteFile(file, []byte("scan"), 0); err != nil {
			return fmt.Errorf("scan for leaks: %w", err)
		}
	}
	found, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("scan for leaks: %w", err)
	}
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer log.Close()
	for line := range strings.Lines(string(found)) {
		fmt.Fprint(log, line)
	}
	return nil
}

func mount() error {
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tmpfs", "/run"},
		{"tmpfs", "/tmp"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"devpts", "/dev/pts"},
	} {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	// What a runtime does too: namespaces are bound below /run.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func loadModules() error {
	list, err := os.Open("/etc/modules-load")
	if err != nil {
		return err
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		if err := loadModule(lines.Text()); err != nil {
			return fmt.Errorf("load %s: %w", lines.Text(), err)
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// run returns the program's exit code, or -1.
func (p *program) run(port *os.File) int {
	ctx, cancel := context.WithTimeout(context.Background(), p.Timeout)
	defer cancel()
	args := append([]string{"-test.v", "-test.timeout=" + p.Timeout.String()}, p.Args...)
	cmd := exec.CommandContext(ctx, "/bin/"+p.Name, args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = port, port
	cmd.Dir = "/tmp"
	if err := cmd.Run(); err != nil {
		fmt.Fprintf(port, "init: %s: %v\n", p.Name, err)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return -1
	}
	return 0
}
