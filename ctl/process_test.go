// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/internal/apitest"
)

// build makes the program in a directory and returns its path.
func build(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "nsqueuectl")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueuectl: %v\n%s", err, out)
	}
	return binary
}

// Ctrl-C is the usual end of a watch.
func TestBinaryInterrupted(t *testing.T) {
	binary := build(t, t.TempDir())
	d := apitest.Daemon{Packets: packets()}
	cmd := exec.CommandContext(t.Context(), binary, "watch")
	cmd.Env = []string{"NSQUEUE_SOCKET=" + d.Start(t)}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	var got strings.Builder
	for range packets() {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(line)
	}
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, cmd.Process.Pid); err != nil ||
		nice != 20-niceValue { // what the system call returns
		t.Errorf("priority %d, %v; want it to let others go first", nice, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&got, lines); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	outcome{0, got.String(), stderr.String()}.want(t, 0, packetLines,
		watching+"3 packets printed: 2 accept, 1 drop; 4 left out because they came too fast\n")
}

// A member of the observers' group can look, and nothing else.
func TestBinaryObserves(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	const user = 65501
	d := apitest.Daemon{Attachments: attachments(), Packets: packets(), WatchEnds: true}
	socket := d.StartObservers(t, user)
	dir := filepath.Dir(socket)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	binary := build(t, dir)
	for line, want := range map[string]struct {
		status int
		output string
	}{
		"list":            {0, "default/busybox1"},
		"status":          {0, "Attachments:"},
		"watch --count 1": {0, "packet: 1,"},
		"detach --all":    {1, "is not served on the observers' socket"},
		"upgrade":         {1, "is not served on the observers' socket"},
		"log-level debug": {1, "is not served on the observers' socket"},
		"adopt":           {1, "is not served on the observers' socket"},
	} {
		args := append(strings.Fields(line), "--socket", socket)
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		out, err := cmd.CombinedOutput()
		if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
			t.Fatal(err)
		}
		if cmd.ProcessState.ExitCode() != want.status || !strings.Contains(string(out), want.output) {
			t.Errorf("%s: %v, want status %d and %q: %s", line, err, want.status, want.output, out)
		}
	}
}

// A directory that cannot be written to is told of, and left as it is. The
// plugin is the real one.
func TestBinaryInstallsReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	dir := filepath.Dir(apitest.SocketPath(t))
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	binary := build(t, dir)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/nsqueue", "../plugin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build nsqueue: %v\n%s", err, out)
	}
	conf := dir + "/net.d"
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, conf+"/a.conflist", stockList)
	for _, command := range []string{"install --mode append", "install --mode drop-in"} {
		args := append(strings.Fields(command), "--conf-dir", conf, "--bin-dir", dir)
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65501, Gid: 65501}}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), conf) ||
			!strings.Contains(string(out), "permission denied") {
			t.Errorf("%s: %v: %s", command, cmd.ProcessState, out)
		}
		entries, err := os.ReadDir(conf)
		if err != nil || len(entries) != 1 || content(t, conf+"/a.conflist") != stockList {
			t.Errorf("%s left %v, %v", command, entries, err)
		}
	}
	// Root can, with the plugin that is there already.
	cmd = exec.CommandContext(t.Context(), binary, "install", "--mode", "drop-in",
		"--conf-dir", conf, "--bin-dir", dir, "--reload-wait", "5ms")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), dir+"/nsqueue: unchanged\n") {
		t.Errorf("%v: %s", err, out)
	}
}
