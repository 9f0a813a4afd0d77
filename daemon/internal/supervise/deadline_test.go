// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// newSupervisor returns a supervisor whose loop does not run. Its daemon is this
// very process.
func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	dir, err := os.MkdirTemp("", "nsq") //nolint:usetesting // its paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.RuntimeDir = dir
	s := &supervisor{
		config: c, executable: procSelf, log: slog.New(slog.DiscardHandler),
		worker: &worker{pid: os.Getpid()},
	}
	if err := s.open(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tellSupervisor(t *testing.T, s *supervisor, message string) {
	t.Helper()
	conn, err := net.Dial("unixgram", s.socket.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, message); err != nil {
		t.Fatal(err)
	}
}

// sleeper has the supervisor start a daemon that is silent.
func sleeper(t *testing.T, s *supervisor, now time.Time) *worker {
	t.Helper()
	s.config.Worker, s.config.Args = "/bin/sleep", []string{"1000"}
	w, err := s.spawn(now)
	if err != nil {
		t.Fatal(err)
	}
	s.worker = w
	eventually(t, "sleep in the place of its re-exec step", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", w.pid))
		return err == nil && string(name) == "sleep\n"
	})
	return w
}

// hangs checks that the daemon lives until the limit is over, and not longer.
func hangs(t *testing.T, s *supervisor, from time.Time, limit time.Duration) {
	t.Helper()
	w, end := s.worker, from.Add(limit)
	if due := s.due(); !due.Equal(end) {
		t.Errorf("the daemon is due %v after its sign of life, want %v", due.Sub(from), limit)
	}
	s.check(end.Add(-1))
	if !w.killAt.IsZero() {
		t.Error("the daemon is taken for hung before its time")
	}
	s.check(end)
	if want := end.Add(s.config.AbortGrace); !w.killAt.Equal(want) || !s.due().Equal(want) {
		t.Errorf("after the limit the daemon is killed at %v, want %v", w.killAt, want)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(w.pid, &status, 0, nil); err != nil || status.Signal() != unix.SIGABRT {
		t.Errorf("the daemon ended by %v, %v; want SIGABRT", status.Signal(), err)
	}
}

func TestStartTimeout(t *testing.T) {
	s, now := newSupervisor(t), time.Now()
	w := sleeper(t, s, now)
	w.alive(now.Add(time.Second), s.config.Watchdog) // which is not what it is asked for
	hangs(t, s, now, s.config.StartTimeout)
}

func TestWatchdog(t *testing.T) {
	s, now := newSupervisor(t), time.Now()
	w := sleeper(t, s, now)
	s.ready("")
	w.alive(now, s.config.Watchdog)
	later := now.Add(s.config.Watchdog / 2)
	w.alive(later, s.config.Watchdog)
	hangs(t, s, later, s.config.Watchdog)
}

// While a program takes its time to be asked, the daemon lives: what it has said
// meanwhile is heard before its time is looked at.
func TestUpgradeRefusedLate(t *testing.T) {
	r := newRig(t)
	r.replace(t, []byte("#!/bin/sh\n"))
	s := newSupervisor(t)
	s.executable = r.program()
	s.worker.ready = true
	s.worker.deadline = time.Now()
	tellSupervisor(t, s, "WATCHDOG=1")
	if err := s.upgrade(); err != nil || s.goal != toRun {
		t.Errorf("goal %d, %v; want the upgrade refused", s.goal, err)
	}
	if s.check(time.Now()); !s.worker.killAt.IsZero() {
		t.Error("the daemon is taken for hung")
	}
}

// An active supervisor that is told to end waits for a successor until the time is over,
// or it is told again.
func TestLingerTime(t *testing.T) {
	const linger = 20 * time.Second
	for name, again := range map[string]bool{"time is over": false, "told again": true} {
		t.Run(name, func(t *testing.T) {
			s, now := newSupervisor(t), time.Now()
			s.config.HandoverDir, s.config.Linger = s.config.RuntimeDir, linger
			s.shared = newShared(s)
			s.shared.become(succession.Active)
			w := sleeper(t, s, now)
			s.shared.terminate(now)
			end := now.Add(linger)
			if due := s.shared.due(); !due.Equal(end) {
				t.Errorf("the last stop is due after %v, want %v", due.Sub(now), linger)
			}
			if again {
				end = now.Add(linger / 2)
			}
			if _, err := s.shared.proceed(end.Add(-1)); err != nil || s.goal != toRun || !w.killAt.IsZero() {
				t.Errorf("%v: the supervisor stops before its time", err)
			}
			if again {
				s.shared.terminate(end)
			}
			if _, err := s.shared.proceed(end); err != nil || s.goal != toStop || w.killAt.IsZero() {
				t.Errorf("%v: the supervisor goes on", err)
			}
			if w.lease.Kept() {
				t.Error("the daemon does not know that this stop is the last one")
			}
			var status unix.WaitStatus
			if _, err := unix.Wait4(w.pid, &status, 0, nil); err != nil {
				t.Error(err)
			}
		})
	}
}
