// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scores makes a directory that stands for /proc, with the values of processes.
func scores(t *testing.T, values map[string]string) *oomScore {
	t.Helper()
	o := &oomScore{proc: t.TempDir()}
	for process, value := range values {
		if err := os.Mkdir(filepath.Join(o.proc, process), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.path(process), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o *oomScore) want(t *testing.T, process, value string) {
	t.Helper()
	got, err := os.ReadFile(o.path(process))
	if err != nil || strings.TrimSpace(string(got)) != value {
		t.Errorf("process %s has %q, %v, want %s", process, got, err, value)
	}
}

func TestScoreOfSupervisorAndWorker(t *testing.T) {
	var log buffer
	o := scores(t, map[string]string{"self": "-997", "7": neverKilled})
	o.lower(slog.New(slog.NewTextHandler(&log, nil)))
	o.want(t, "self", neverKilled)
	if err := o.giveBack(7); err != nil {
		t.Error(err)
	}
	o.want(t, "7", "-997")
	o.undo()
	o.want(t, "self", "-997")
	if log.String() != "" {
		t.Error(log.String())
	}
}

// A supervisor that has the value already leaves its children with it.
func TestScoreThatIsThere(t *testing.T) {
	o := scores(t, map[string]string{"self": neverKilled, "7": neverKilled})
	o.lower(slog.New(slog.DiscardHandler))
	if err := o.giveBack(7); err != nil {
		t.Error(err)
	}
	o.undo()
	o.want(t, "7", neverKilled)
	o.want(t, "self", neverKilled)
}

// Where it may not be lowered, a line of the log says so, and nothing else changes.
func TestScoreThatCannotBeLowered(t *testing.T) {
	var log buffer
	o := &oomScore{proc: filepath.Join(t.TempDir(), "none")}
	o.lower(slog.New(slog.NewTextHandler(&log, nil)))
	if err := o.giveBack(7); err != nil {
		t.Error(err)
	}
	o.undo()
	if !strings.Contains(log.String(), "CAP_SYS_RESOURCE") {
		t.Errorf("log %q", log.String())
	}
}

// Whether this machine allows it or not, the worker has what it would have without
// a supervisor, also after an upgrade.
func TestScoresOfProcesses(t *testing.T) {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	processes := &oomScore{proc: "/proc"}
	r := newRig(t)
	r.start(t)
	check := func(b birth) {
		t.Helper()
		processes.want(t, strconv.Itoa(b.pid), strings.TrimSpace(string(own)))
		if !strings.Contains(r.log.String(), "oom_score_adj cannot be lowered") {
			processes.want(t, strconv.Itoa(b.ppid), neverKilled)
		}
	}
	check(r.live(t))
	r.install(t, "v2")
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	r.want(t, "stopping keeps=true")
	check(r.live(t))
}
