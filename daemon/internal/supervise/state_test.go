// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// ask returns the supervisor's state once it is as wanted.
func (r *rig) ask(t *testing.T, what string, cond func(*api.SupervisorState) bool) {
	t.Helper()
	var last api.SupervisorState
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("last state %+v, %v", last, err)
		}
	}()
	eventually(t, what, func() bool {
		last, err = api.AskSupervisor(t.Context(), r.dir)
		return err == nil && cond(&last)
	})
}

func TestStateFollowsTheWorker(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i t1i")
	r.start(t)
	first := r.live(t)
	r.ask(t, "first worker is ready", func(s *api.SupervisorState) bool {
		return s.Serves() && s.Ready() == nil && s.PID == r.cmd.Process.Pid &&
			s.Worker.PID == first.pid && s.Descriptors == 2 && s.Restarts == 0
	})
	r.mode(t, "", "never-ready")
	kill(t, first.pid, unix.SIGKILL)
	second := r.born(t)
	r.ask(t, "second worker is not ready", func(s *api.SupervisorState) bool {
		return s.Ready() != nil && s.Worker != nil && s.Worker.PID == second.pid && !s.Worker.Ready
	})
	r.mode(t, "", "")
	third := r.live(t)
	r.ask(t, "third worker is ready", func(s *api.SupervisorState) bool {
		return s.Serves() && s.Worker.PID == third.pid && s.Restarts == 2
	})
}

// An upgraded supervisor answers, and so does one that follows one that was killed.
func TestStateAfterUpgradeAndKill(t *testing.T) {
	r := newRig(t)
	r.start(t)
	r.live(t)
	r.install(t, "v2")
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	r.want(t, "stopping keeps=true")
	r.live(t)
	r.ask(t, "ready after an upgrade", func(s *api.SupervisorState) bool { return s.Serves() })
	info, err := os.Stat(api.SupervisorSocket(r.dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info, err)
	}
	kill(t, r.cmd.Process.Pid, unix.SIGKILL)
	<-r.exited
	r.start(t)
	r.live(t)
	r.ask(t, "ready after a kill", func(s *api.SupervisorState) bool { return s.Serves() })
	kill(t, r.cmd.Process.Pid, unix.SIGTERM)
	r.exit(t)
	if _, err := os.Lstat(api.SupervisorSocket(r.dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// Where the socket cannot be made, the queues are kept all the same.
func TestStateSocketCannotBeMade(t *testing.T) {
	r := newRig(t)
	if err := os.MkdirAll(api.SupervisorSocket(r.dir)+"/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	first := r.live(t)
	kill(t, first.pid, unix.SIGKILL)
	r.live(t)
	r.logged(t, "nobody can ask this supervisor")
}

func TestSooner(t *testing.T) {
	never, now := time.Time{}, time.Now()
	later := now.Add(time.Second)
	for _, tt := range []struct{ a, b, want time.Time }{
		{never, never, never},
		{now, never, now},
		{never, now, now},
		{now, later, now},
		{later, now, now},
	} {
		if got := sooner(tt.a, tt.b); !got.Equal(tt.want) {
			t.Errorf("%v and %v: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
