// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/internal/conflist"
)

// runtimeSource is a program that says its version, or runs until its input ends.
const runtimeSource = `package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println(os.Args[0], "x", "VERSION")
		return
	}
	fmt.Println("runs")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
`

// buildRuntime makes a program containerd of a version, and returns its path.
func buildRuntime(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "containerd")
	write(t, source, strings.Replace(runtimeSource, "VERSION", version, 1))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// runs starts a program and returns when it runs.
func runs(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "runs\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// own has the namespaces of this process for those of the node.
func own() *runningPrograms { return &runningPrograms{proc: "/proc", node: "self"} }

// What runs counts, and not what is installed since.
func TestRunningVersionCounts(t *testing.T) {
	program := buildRuntime(t, "v2.1.0")
	runs(t, exec.Command(program))
	t.Setenv("PATH", t.TempDir())
	if err := os.Remove(program); err != nil { // as an upgrade does
		t.Fatal(err)
	}
	write(t, program, "#!/bin/sh\necho containerd x v1.7.0\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &profile{programs: filepath.Dir(program)}
	r := findRuntimes(t.Context(), p, own())
	if len(r.found) != 1 || r.mode() != conflist.DropIn {
		t.Errorf("%+v, want the one that runs", r)
	}
	r = findRuntimes(t.Context(), p, &runningPrograms{proc: t.TempDir(), node: "1"})
	if len(r.found) != 1 || r.mode() != conflist.Append {
		t.Errorf("%+v, want the installed one where no process is seen", r)
	}
}

// In the root of the process, its libraries are those that it has.
func TestRunningVersionInItsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root directory")
	}
	program, root := buildRuntime(t, "v2.2.0"), t.TempDir()
	for _, dir := range []string{"proc", "bin"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(program, filepath.Join(root, "bin/containerd")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("/proc", filepath.Join(root, "proc"), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(filepath.Join(root, "proc"), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("/bin/containerd")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	runs(t, cmd)
	if said := own().ask(t.Context(), "containerd"); len(said) != 1 ||
		said[0] != "containerd x v2.2.0\n" {
		t.Errorf("%q", said)
	}
}

// A process of a container may have any name: its program is not run.
func TestForeignProcessIsNotAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a mount namespace")
	}
	program := buildRuntime(t, "v2.1.0")
	cmd := exec.Command(program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	runs(t, cmd)
	if said := own().ask(t.Context(), "containerd"); said != nil {
		t.Errorf("of another mount namespace: %q", said)
	}
}

func TestStrangersProgramIsNotAsked(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"writable for all": func(path string) error { return os.Chmod(path, 0o757) },
		"another owner":    func(path string) error { return os.Chown(path, 65534, 65534) },
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			program := buildRuntime(t, "v2.1.0")
			if err := change(program); err != nil {
				t.Fatal(err)
			}
			runs(t, exec.Command(program))
			if said := own().ask(t.Context(), "containerd"); said != nil {
				t.Errorf("%q", said)
			}
		})
	}
}
