// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// beside returns a supervisor that is not started yet and shares the hand-over
// directory, but has a runtime directory of its own.
func (r *rig) beside(t *testing.T) *rig {
	t.Helper()
	other := newRig(t)
	other.shared = r.sharedDir()
	return other
}

func (r *rig) sharedDir() string {
	if r.shared == "" {
		r.shared = r.dir + "/shared"
	}
	return r.shared
}

// newShare returns a supervisor that hands over.
func newShare(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.sharedDir()
	return r
}

// role waits until the supervisor says that it has a role.
func (r *rig) role(t *testing.T, want succession.Role) succession.Report {
	t.Helper()
	var report succession.Report
	eventually(t, "role "+string(want), func() bool {
		var err error
		report, err = succession.ReadReport(filepath.Join(r.dir, "run", "role.json"))
		return err == nil && report.Role == want
	})
	return report
}

// ready reads what a daemon says until it is ready.
func (r *rig) serving(t *testing.T) birth {
	t.Helper()
	b := r.born(t)
	for r.next(t) != "ready" {
	}
	return b
}

const fourNames = "q1i q2f t1i l0i"

// The one that comes takes everything, and the other one takes it back.
func TestTakeAndGiveBack(t *testing.T) {
	a := newShare(t)
	a.mode(t, "", "put "+fourNames)
	a.start(t)
	a.serving(t)
	a.role(t, succession.Active)
	b := a.beside(t)
	b.start(t)
	if got := b.serving(t).inherited; got != "q1i=0,q2f=1,t1i=2,l0i=3" {
		t.Errorf("the taker's daemon has %s", got)
	}
	a.want(t, "stopping keeps=true")
	b.role(t, succession.Active)
	if r := a.role(t, succession.Standby); len(r.Peers) != 1 || r.Peers[0].Role != succession.Active {
		t.Errorf("the standby knows of %+v", r.Peers)
	}
	kill(t, b.cmd.Process.Pid, unix.SIGTERM)
	if got := a.serving(t).inherited; got != "q1i=0,q2f=1,t1i=2,l0i=3" {
		t.Errorf("the daemon of the one that takes back has %s", got)
	}
	b.want(t, "stopping keeps=true")
	if code := b.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	a.role(t, succession.Active)
}

// Without a successor the last daemon knows that nothing is kept.
func TestNoSuccessor(t *testing.T) {
	a := newShare(t)
	a.start(t)
	a.serving(t)
	kill(t, a.cmd.Process.Pid, unix.SIGTERM)
	a.want(t, "stopping keeps=false")
	if code := a.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(a.log.String(), "no successor has come") {
		t.Error("the log does not say so")
	}
}
