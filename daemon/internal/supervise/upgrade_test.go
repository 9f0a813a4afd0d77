// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUpgrade(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i q2f")
	r.start(t)
	r.live(t)
	for _, version := range []string{"v2", "v3"} {
		r.install(t, version)
		kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
		r.want(t, "stopping keeps=true")
		b := r.live(t)
		if b.version != version || b.inherited != "q1i=0,q2f=1" || b.restarts != 0 {
			t.Errorf("after the upgrade to %s: %+v", version, b)
		}
	}
	// The new supervisor does what the old one did.
	kill(t, r.cmd.Process.Pid, unix.SIGHUP)
	r.want(t, "hup")
	if _, err := os.Stat(filepath.Join(r.dir, socketName)); err != nil {
		t.Error(err)
	}
	kill(t, r.cmd.Process.Pid, unix.SIGTERM)
	r.want(t, "stopping keeps=true")
	if code := r.exit(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A worker that dies is replaced by its own version, not by a half upgrade.
func TestRestartIsNoUpgrade(t *testing.T) {
	r := newRig(t)
	r.start(t)
	first := r.live(t)
	r.install(t, "v2")
	kill(t, first.pid, unix.SIGKILL)
	if b := r.live(t); b.version != "v1" {
		t.Errorf("%+v, want v1", b)
	}
}

func TestUpgradeRefused(t *testing.T) {
	for name, tt := range map[string]struct{ program, says string }{
		"no program":          {"v2", "exec format error"},
		"says no version":     {"#!/bin/sh\n", "want one line"},
		"fails":               {"#!/bin/sh\necho v2; exit 1\n", "exit status 1"},
		"prints another text": {"#!/bin/sh\necho a; echo b\n", "want one line"},
		"knows no handover": {
			"#!/bin/sh\n[ $1 = --version ] && echo v2 || { echo 'unknown flag' >&2; exit 1; }\n",
			"v2 may not understand the handover",
		},
		"newer handover": {
			"#!/bin/sh\n[ $1 = --version ] && echo v2 || echo 2 3\n",
			"v2 understands handover format",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.mode(t, "", "put q1i q2f")
			r.start(t)
			first := r.live(t)
			r.replace(t, []byte(tt.program))
			kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
			r.logged(t, "upgrade refused", tt.says)
			kill(t, r.cmd.Process.Pid, unix.SIGHUP) // the worker is still there
			r.want(t, "hup")
			kill(t, first.pid, unix.SIGKILL)
			if b := r.live(t); b.version != "v1" || b.inherited != "q1i=0,q2f=1" {
				t.Errorf("%+v, want v1 with all descriptors", b)
			}
		})
	}
}

// A version that reads more formats reads ours.
func TestSuccessorReadsMore(t *testing.T) {
	r := newRig(t)
	r.replace(t, []byte("#!/bin/sh\n[ $1 = --version ] && echo v2 || echo "+HandoverFormats()+" 7\n"))
	s := &supervisor{executable: r.program()}
	if version, err := s.askSuccessor(); version != "v2" || err != nil {
		t.Errorf("%q, %v, want v2", version, err)
	}
}

// What tells a version need not work. The descriptors stay until one does.
func TestUpgradeToAWorkerThatDies(t *testing.T) {
	r := newRig(t)
	r.mode(t, "v1", "put q1i q2f")
	r.mode(t, "v2", "crash")
	r.start(t)
	r.live(t)
	r.install(t, "v2")
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	r.want(t, "stopping keeps=true")
	for range 4 { // one more than a supervisor gives up after
		r.born(t)
	}
	r.logged(t, "the new version has not become ready since the upgrade", "released=1")
	r.install(t, "v3")
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	b := r.born(t)
	for b.version == "v2" {
		b = r.born(t)
	}
	r.want(t, "ready")
	if b.version != "v3" || b.inherited != "q2f=1" {
		t.Errorf("%+v, want v3 with the descriptor of Fail", b)
	}
}

func TestUpgradeToAHungWorker(t *testing.T) {
	r := newRig(t)
	r.mode(t, "v2", "never-ready")
	r.start(t)
	r.live(t)
	r.install(t, "v2")
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	r.want(t, "stopping keeps=true")
	r.born(t)
	r.logged(t, "daemon hangs", "the new version has not become ready since the upgrade")
}

func TestStopDuringUpgrade(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "deaf")
	r.start(t, "stop=1h")
	worker := r.live(t).pid
	kill(t, r.cmd.Process.Pid, unix.SIGUSR2)
	r.want(t, "stopping keeps=true")
	kill(t, r.cmd.Process.Pid, unix.SIGTERM)
	r.want(t, "stopping keeps=true")
	kill(t, worker, unix.SIGSTOP) // so that it is killed
	if code := r.exit(t); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
}
