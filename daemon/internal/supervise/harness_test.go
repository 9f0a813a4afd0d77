// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience only catches what hangs; no test is about how long something takes.
const patience = time.Minute

// rig is a supervisor that runs, with its worker.
type rig struct {
	dir    string
	cmd    *exec.Cmd
	lines  chan string // what workers say; closed when the last process ends
	log    buffer
	exited chan struct{}
	// isolated has the processes run in a netns of their own.
	isolated bool
	// shared is the hand-over directory, empty for none.
	shared string
	// soft and hard limits of open files, zero for those of the test.
	soft, hard uint64
}

// buffer is a bytes.Buffer that is read while it is written to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newRig returns a supervisor that is not started yet, in a directory with the
// program as version v1.
func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "nsq") //nolint:usetesting // its paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r := &rig{dir: dir}
	r.install(t, "v1")
	return r
}

func (r *rig) program() string { return filepath.Join(r.dir, "nsqueued") }

// install puts the program as a version into its place, as a package manager
// does.
func (r *rig) install(t *testing.T, version string) {
	t.Helper()
	b, err := os.ReadFile(procSelf)
	if err != nil {
		t.Fatal(err)
	}
	r.replace(t, append(b, version...))
}

func (r *rig) replace(t *testing.T, program []byte) {
	t.Helper()
	fresh := r.program() + ".new"
	err := os.WriteFile(fresh, program, 0o700)
	if err := errors.Join(err, os.Rename(fresh, r.program())); err != nil {
		t.Fatal(err)
	}
}

// mode says what workers do that start from now on.
func (r *rig) mode(t *testing.T, version, mode string) {
	t.Helper()
	fresh := filepath.Join(r.dir, "fresh")
	err := os.WriteFile(fresh, []byte(mode), 0o600)
	err = errors.Join(err, os.Rename(fresh, filepath.Join(r.dir, "mode"+version)))
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) start(t *testing.T, settings ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ended in order below
	command := append(append(r.limit(), r.program(), "supervisor"), settings...)
	r.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	r.cmd.Env = append(os.Environ(), dirEnv+"="+r.dir, sharedEnv+"="+r.shared)
	r.cmd.Stderr = &r.log
	if r.isolated {
		r.cmd.SysProcAttr = isolation()
	}
	r.cmd.WaitDelay = patience
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout = write
	if err := errors.Join(r.cmd.Start(), write.Close()); err != nil {
		t.Fatal(err)
	}
	lines, exited := make(chan string, 1000), make(chan struct{})
	r.lines, r.exited = lines, exited
	var ends sync.WaitGroup
	ends.Go(func() { defer close(lines); forward(read, lines) })
	ends.Go(func() { defer close(exited); _ = r.cmd.Wait() })
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-exited:
		case <-time.After(patience):
			t.Error("the supervisor does not end")
		}
		cancel()
		ends.Wait()
		if t.Failed() {
			t.Logf("log:\n%s", r.log.String())
		}
	})
}

// limit is what starts the supervisor with other limits of open files.
func (r *rig) limit() []string {
	switch {
	case r.hard > 0:
		return []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", r.hard, r.hard)}
	case r.soft > 0:
		return []string{"prlimit", fmt.Sprintf("--nofile=%d:", r.soft)}
	}
	return nil
}

func forward(r io.ReadCloser, lines chan<- string) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		lines <- s.Text()
	}
}

// next returns the next line that a worker says.
func (r *rig) next(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok {
			t.Fatal("all processes have ended")
		}
		return line
	case <-time.After(patience):
		t.Fatal("the worker says nothing")
	}
	return ""
}

func (r *rig) want(t *testing.T, line string) {
	t.Helper()
	if got := r.next(t); got != line {
		t.Fatalf("the worker says %q, want %q", got, line)
	}
}

// birth is what a worker says first.
type birth struct {
	pid, restarts, ppid int
	version, inherited  string
	contested           bool
}

// parseBirth returns false where a worker says something else.
func parseBirth(line string) (b birth, ok bool) {
	rest, inherited, _ := strings.Cut(line, " inherited=")
	b.inherited = inherited
	_, err := fmt.Sscanf(rest, "started %d %s restarts=%d ppid=%d contested=%t",
		&b.pid, &b.version, &b.restarts, &b.ppid, &b.contested)
	return b, err == nil
}

func (r *rig) born(t *testing.T) birth {
	t.Helper()
	line := r.next(t)
	b, ok := parseBirth(line)
	if !ok {
		t.Fatalf("the worker says %q", line)
	}
	if b.ppid != r.cmd.Process.Pid {
		t.Errorf("the worker's parent is %d, want the supervisor, %d", b.ppid, r.cmd.Process.Pid)
	}
	return b
}

// live is born for a worker that becomes ready.
func (r *rig) live(t *testing.T) birth {
	t.Helper()
	b := r.born(t)
	r.want(t, "ready")
	return b
}

func kill(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to %d: %v", sig, pid, err)
	}
}

// exit waits for the supervisor's end and returns its exit code.
func (r *rig) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-r.exited:
	case <-time.After(patience):
		t.Fatal("the supervisor goes on")
	}
	return r.cmd.ProcessState.ExitCode()
}

// logged waits until the supervisor has logged all of the texts.
func (r *rig) logged(t *testing.T, texts ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("log of %q", texts), func() bool {
		for _, text := range texts {
			if !strings.Contains(r.log.String(), text) {
				return false
			}
		}
		return true
	})
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	within(t, patience, what, cond)
}

func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}
