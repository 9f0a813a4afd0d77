// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
)

// leave says that the installation leaves the node.
func (r *rig) leave(t *testing.T) {
	t.Helper()
	if err := succession.Retire(succession.RetirementPath(r.sharedDir()), ""); err != nil {
		t.Fatal(err)
	}
}

// retired reports what the supervisor tells who asks.
func (r *rig) retired(t *testing.T) bool {
	t.Helper()
	s, err := api.AskSupervisor(t.Context(), r.dir+"/run")
	if err != nil {
		t.Fatal(err)
	}
	return s.Retired
}

// wantNoFiles expects nothing in the directory that was shared.
func (r *rig) wantNoFiles(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(r.sharedDir())
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// A supervisor that leaves waits for no successor, and removes its files.
func TestLeavingWaitsForNobody(t *testing.T) {
	a := newShare(t)
	a.start(t, "linger=1h")
	a.serves(t)
	if a.retired(t) {
		t.Error("it leaves before that was said")
	}
	a.leave(t)
	if !a.retired(t) {
		t.Error("it does not say that it leaves")
	}
	kill(t, a.cmd.Process.Pid, unix.SIGTERM)
	a.want(t, "stopping keeps=false")
	if code := a.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	a.wantNoFiles(t)
}

// A standby does not take back what is to leave, though it goes on when the active one
// has ended, as one that leaves as well.
func TestLeavingIsNotTakenBack(t *testing.T) {
	a := newShare(t)
	a.start(t, "linger=1h")
	a.serves(t)
	b := a.beside(t)
	b.start(t, "linger=1h")
	b.serves(t)
	a.role(t, succession.Standby)
	b.leave(t)
	kill(t, b.cmd.Process.Pid, unix.SIGTERM)
	b.want(t, "stopping keeps=false")
	b.exit(t)
	a.role(t, succession.Active)
	if !a.retired(t) {
		t.Error("what was the standby does not leave")
	}
	a.serves(t)
	kill(t, a.cmd.Process.Pid, unix.SIGTERM)
	a.want(t, "stopping keeps=false")
	a.exit(t)
	a.wantNoFiles(t)
}

// What starts after that is a new installation, and takes over from the one that leaves.
func TestNewInstallationStays(t *testing.T) {
	a := newShare(t)
	a.mode(t, "", "put "+fourNames)
	a.start(t)
	a.serving(t)
	a.leave(t)
	a.mode(t, "", "")
	b := a.beside(t)
	b.start(t)
	if got := b.serves(t).inherited; got != all {
		t.Errorf("the daemon has %s", got)
	}
	if b.retired(t) || !a.retired(t) {
		t.Error("the new one leaves, or the old one does not")
	}
	kill(t, a.cmd.Process.Pid, unix.SIGTERM)
	if code := a.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.role(t, succession.Active)
	if _, err := os.Stat(b.sharedDir() + "/active.lock"); err != nil {
		t.Errorf("the standby has removed the active one's lock: %v", err)
	}
}
