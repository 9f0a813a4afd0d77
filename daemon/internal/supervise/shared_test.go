// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/fault"
	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
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
	taken := b.serving(t)
	if taken.inherited != all || !taken.contested {
		t.Errorf("the taker's daemon is %+v", taken)
	}
	a.want(t, "stopping keeps=true")
	if r := b.role(t, succession.Active); r.TakeOvers != 1 {
		t.Errorf("%d take-overs, want one", r.TakeOvers)
	}
	if r := a.role(t, succession.Standby); len(r.Peers) != 1 || r.Peers[0].Role != succession.Active {
		t.Errorf("the standby knows of %+v", r.Peers)
	}
	kill(t, b.cmd.Process.Pid, unix.SIGTERM)
	if back := a.serving(t); back.inherited != all || !back.contested {
		t.Errorf("the daemon of the one that takes back is %+v", back)
	}
	b.want(t, "stopping keeps=true")
	if code := b.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	a.role(t, succession.Active)
}

// What changes after the copies were made, and before the daemon has stopped, is handed
// over as it is then.
func TestCopiesChange(t *testing.T) {
	for _, point := range []fault.Point{fault.TakeOffered, fault.TakeCopied, fault.TakeSeen} {
		t.Run(string(point), func(t *testing.T) {
			a := newShare(t)
			a.mode(t, "", "put "+fourNames)
			a.start(t)
			daemon := a.serving(t)
			b := a.beside(t)
			b.arrange(t, fault.Stop+string(point))
			b.start(t)
			eventually(t, "point", b.stopped)
			kill(t, daemon.pid, unix.SIGUSR1)
			a.want(t, "removed")
			kill(t, daemon.pid, unix.SIGUSR2)
			a.want(t, "put")
			kill(t, b.cmd.Process.Pid, unix.SIGCONT)
			if got, want := b.serving(t).inherited, "q2f=1,t1i=2,l0i=3,q9i=0"; got != want {
				t.Errorf("the taker's daemon has %s, want %s", got, want)
			}
			b.role(t, succession.Active)
			a.role(t, succession.Standby)
		})
	}
}

// A daemon that has seen copies gives them up when the active supervisor dies: what it
// was about is gone. The next one gives it others.
func TestCopiesDiscarded(t *testing.T) {
	a := active(t)
	b := a.beside(t)
	b.arrange(t, fault.Stop+string(fault.TakeSeen))
	b.start(t)
	eventually(t, "point", b.stopped)
	kill(t, a.cmd.Process.Pid, unix.SIGKILL)
	<-a.exited
	c := a.beside(t)
	c.mode(t, "", "put q7i q8i")
	c.start(t)
	c.serves(t)
	kill(t, b.cmd.Process.Pid, unix.SIGCONT)
	if got := b.serves(t).inherited; got != "q7i=0,q8i=1" {
		t.Errorf("the daemon has %s", got)
	}
	if n := strings.Count(b.log.String(), "daemon started"); n != 1 {
		t.Errorf("%d daemons were started, want the one that was prepared", n)
	}
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

// arrange has the supervisor killed at a point, or stopped.
func (r *rig) arrange(t *testing.T, what string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "fault"), []byte(what), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stopped reports whether the supervisor has stopped at its point. It removes the file
// before it stops: what has it go on must not come in between.
func (r *rig) stopped() bool {
	if _, err := os.Stat(filepath.Join(r.dir, "fault")); err == nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	// PID (NAME) STATE, where the name may contain anything.
	return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T"))
}

// serves waits for the next daemon that serves, and returns its birth.
func (r *rig) serves(t *testing.T) birth {
	t.Helper()
	for {
		b, ok := parseBirth(r.next(t))
		if !ok {
			continue
		}
		for r.next(t) != "ready" {
		}
		return b
	}
}

// servesAll waits until the daemon serves, and all is held.
func (r *rig) servesAll(t *testing.T) {
	t.Helper()
	eventually(t, "daemon serves all", func() bool {
		s, err := api.AskSupervisor(t.Context(), filepath.Join(r.dir, "run"))
		return err == nil && s.Serves() && s.Descriptors == 4
	})
}

const all = "q1i=0,q2f=1,t1i=2,l0i=3"

// active returns a supervisor whose daemon has stored descriptors.
func active(t *testing.T, settings ...string) *rig {
	t.Helper()
	r := newShare(t)
	r.mode(t, "", "put "+fourNames)
	r.start(t, settings...)
	r.serving(t)
	r.mode(t, "", "")
	return r
}

// Whoever takes over may be killed at any moment: the one before goes on, with
// everything.
func TestTakerKilled(t *testing.T) {
	for _, point := range fault.Taking() {
		t.Run(string(point), func(t *testing.T) {
			a := active(t)
			b := a.beside(t)
			b.arrange(t, string(point))
			b.start(t)
			<-b.exited
			switch point {
			case fault.TakeConnected, fault.TakeOffered, fault.TakePrepared, fault.TakeDescriptors,
				fault.TakeCopied, fault.TakeSeen:
				s, err := api.AskSupervisor(t.Context(), filepath.Join(a.dir, "run"))
				if err != nil || !s.Serves() || s.Descriptors != 4 {
					t.Errorf("%+v, %v: the daemon was disturbed", s, err)
				}
			case fault.TakeSent: // perhaps the giver hears of both at once
				a.servesAll(t)
			case fault.TakeReady: // it has been told, and comes back without a descriptor
				a.role(t, succession.Active)
				if got := a.serves(t).inherited; got != "" {
					t.Errorf("the daemon has %s", got)
				}
			default:
				a.want(t, "stopping keeps=true")
				if got := a.serves(t); got.inherited != all || got.contested {
					t.Errorf("the daemon is %+v", got)
				}
			}
		})
	}
}

// Whoever gives may be killed at any moment: the other one goes on, with everything if
// it has been sent. Where it has not, the other one's daemon is told that there is no way
// back.
func TestGiverKilled(t *testing.T) {
	for _, point := range fault.Giving() {
		t.Run(string(point), func(t *testing.T) {
			a := active(t)
			a.arrange(t, string(point))
			b := a.beside(t)
			b.start(t)
			<-a.exited
			want := ""
			switch point {
			case fault.GiveAll, fault.GiveHad, fault.GiveReady, fault.GiveLetGo:
				want = all
			}
			if got := b.serves(t); got.inherited != want || got.contested != (want == all) {
				t.Errorf("the daemon is %+v, want it to have %q", got, want)
			}
			b.role(t, succession.Active)
		})
	}
}

// A taker that is stopped finds out that the giver goes on. One whose daemon serves
// by then has taken over.
func TestTakerStopped(t *testing.T) {
	for _, point := range fault.Taking() {
		t.Run(string(point), func(t *testing.T) {
			a := active(t, "answer=1s", "take=1s", "hand=1s")
			b := a.beside(t)
			b.arrange(t, fault.Stop+string(point))
			b.start(t)
			eventually(t, "point", b.stopped)
			switch point {
			case fault.TakeConnected, fault.TakeOffered, fault.TakePrepared, fault.TakeDescriptors,
				fault.TakeCopied, fault.TakeSeen:
				kill(t, b.cmd.Process.Pid, unix.SIGCONT)
				b.takes(t, a)
				return
			case fault.TakeDelivered, fault.TakeServing, fault.TakeReady:
				// Its daemon may be faster than the giver's patience ends.
				a.role(t, succession.Standby)
				kill(t, b.cmd.Process.Pid, unix.SIGCONT)
				b.takes(t, a)
				return
			}
			a.want(t, "stopping keeps=true")
			if got := a.serves(t).inherited; got != all {
				t.Errorf("the daemon has %s", got)
			}
			kill(t, b.cmd.Process.Pid, unix.SIGCONT)
			if code := b.exit(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			a.role(t, succession.Active)
		})
	}
}

// takes waits until the supervisor has taken over from the other one.
func (r *rig) takes(t *testing.T, from *rig) {
	t.Helper()
	if got := r.serves(t).inherited; got != all {
		t.Errorf("the daemon has %s", got)
	}
	r.role(t, succession.Active)
	from.role(t, succession.Standby)
}

// A giver that is stopped finds out that the taker has everything, or has given up.
func TestGiverStopped(t *testing.T) {
	for _, point := range fault.Giving() {
		t.Run(string(point), func(t *testing.T) {
			a := active(t)
			a.arrange(t, fault.Stop+string(point))
			b := a.beside(t)
			b.start(t, "answer=1s", "hand=1s")
			eventually(t, "point", a.stopped)
			switch point {
			case fault.GiveAll, fault.GiveHad, fault.GiveReady, fault.GiveLetGo:
				if got := b.serves(t).inherited; got != all {
					t.Errorf("the daemon has %s", got)
				}
				kill(t, a.cmd.Process.Pid, unix.SIGCONT)
				a.role(t, succession.Standby)
				b.role(t, succession.Active)
				return
			}
			if code := b.exit(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			kill(t, a.cmd.Process.Pid, unix.SIGCONT)
			a.role(t, succession.Active)
			a.servesAll(t)
		})
	}
}

// What cannot take over is told why, and changes nothing.
func TestTakeRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		settings []string
		mode     string
		says     string
	}{
		"another instance": {[]string{"instance=b/b"}, "", `"" is active on this node, and "b/b" wants`},
		"older state":      {[]string{"state=0"}, "", "writes state files of version 1"},
		"no room":          {[]string{"descriptors=3"}, "", "4 descriptors are held"},
		"cannot start":     {nil, "unprepared", "cannot be started: exited with 3"},
	} {
		t.Run(name, func(t *testing.T) {
			a := active(t)
			b := a.beside(t)
			b.mode(t, "", tt.mode)
			b.start(t, tt.settings...)
			if code := b.exit(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			b.logged(t, tt.says)
			eventually(t, "refusal is noted", func() bool {
				r := a.role(t, succession.Active)
				return r.Refusals == 1 && strings.Contains(r.LastRefusal.Reason, tt.says)
			})
			a.servesAll(t)
			if strings.Contains(a.log.String(), "daemon stopped") {
				t.Error("the daemon was disturbed")
			}
		})
	}
}

// A daemon that is prepared and does not serve then is followed by the one of before.
func TestTakeAborted(t *testing.T) {
	for mode, says := range map[string]string{
		"crash": "does not start: exited with 3", "mute": "does not serve in time",
	} {
		t.Run(mode, func(t *testing.T) {
			a := active(t)
			b := a.beside(t)
			b.mode(t, "", mode)
			b.start(t, "take=1s")
			a.want(t, "stopping keeps=true")
			if got := a.serves(t).inherited; got != all {
				t.Errorf("the daemon has %s", got)
			}
			if code := b.exit(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			b.logged(t, says)
			if r := a.role(t, succession.Active); r.Refusals != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A standby whose container is started again does not take, and takes when asked.
func TestStandbyStartsAgain(t *testing.T) {
	a := active(t)
	b := a.beside(t)
	b.start(t)
	b.takes(t, a)
	before := b.role(t, succession.Active).Peers[0].Since
	kill(t, a.cmd.Process.Pid, unix.SIGKILL)
	<-a.exited
	a.start(t)
	eventually(t, "standby is known", func() bool {
		peers := b.role(t, succession.Active).Peers
		return len(peers) == 1 && peers[0].Since.After(before)
	})
	kill(t, b.cmd.Process.Pid, unix.SIGTERM)
	if got := a.serves(t).inherited; got != all {
		t.Errorf("the daemon has %s", got)
	}
	a.role(t, succession.Active)
	if code := b.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A standby becomes active when the active one dies, and a third one finds it.
func TestActiveDies(t *testing.T) {
	a := active(t)
	b := a.beside(t)
	b.start(t)
	b.takes(t, a)
	c := a.beside(t)
	c.start(t)
	c.takes(t, b)
	b.role(t, succession.Standby)
	eventually(t, "first one is a standby of the third", func() bool {
		r := a.role(t, succession.Standby)
		return len(r.Peers) == 1 && len(c.role(t, succession.Active).Peers) == 2
	})
	kill(t, c.cmd.Process.Pid, unix.SIGKILL)
	eventually(t, "one of the two is active", func() bool {
		roles := map[succession.Role]int{}
		for _, r := range []*rig{a, b} {
			report, err := succession.ReadReport(filepath.Join(r.dir, "run", "role.json"))
			if err == nil {
				roles[report.Role]++
			}
		}
		return roles[succession.Active] == 1 && roles[succession.Standby] == 1
	})
}

// At SIGTERM the daemon goes on until a successor has taken over.
func TestLinger(t *testing.T) {
	a := active(t, "linger=1h")
	kill(t, a.cmd.Process.Pid, unix.SIGTERM)
	eventually(t, "it says that it ends", func() bool { return a.role(t, succession.Active).Ending })
	b := a.beside(t)
	b.start(t)
	if got := b.serves(t).inherited; got != all {
		t.Errorf("the daemon has %s", got)
	}
	if code := a.exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// A second SIGTERM ends the waiting.
	c := newShare(t)
	c.start(t, "linger=1h")
	c.serves(t)
	kill(t, c.cmd.Process.Pid, unix.SIGTERM)
	eventually(t, "it says that it ends", func() bool { return c.role(t, succession.Active).Ending })
	kill(t, c.cmd.Process.Pid, unix.SIGTERM)
	c.want(t, "stopping keeps=false")
	c.exit(t)
}

// 4,000 descriptors are handed over by processes with a soft limit of 1,024 open
// files.
func TestHandOverFourThousand(t *testing.T) {
	names, held := many()
	a := newShare(t)
	a.soft = 1024
	a.mode(t, "", "put "+strings.Join(names, " "))
	a.start(t)
	a.serves(t)
	a.mode(t, "", "")
	b := a.beside(t)
	b.soft = 1024
	b.start(t)
	if got := b.serves(t).inherited; got != strings.Join(held, ",") {
		t.Errorf("%d descriptors, want %d", strings.Count(got, "=")+1, len(names))
	}
	b.role(t, succession.Active)
	a.role(t, succession.Standby)
}

// A hard limit that is too low is found before anything is stopped.
func TestHandOverLimit(t *testing.T) {
	a := active(t)
	b := a.beside(t)
	b.hard = 255
	b.start(t)
	if code := b.exit(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	b.logged(t, "this process may open 255 files: raise its hard limit")
	a.servesAll(t)
}

// A version that speaks none of the protocols is told both versions, and changes nothing.
func TestNoCommonProtocol(t *testing.T) {
	a := active(t)
	conn, err := succession.Dial(a.sharedDir())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := &succession.Message{
		Kind: succession.Hello, Protocols: []int{99},
		Identity: succession.Identity{Version: "v9", StateVersion: 1},
	}
	if err := conn.Send(hello); err != nil {
		t.Fatal(err)
	}
	var m succession.Message
	eventually(t, "answer", func() bool {
		m, _, err = conn.Receive()
		return !errors.Is(err, succession.ErrAgain)
	})
	const says = "version v9 speaks the hand-over protocols [99], and the active version v1 speaks [1]"
	if err != nil || m.Kind != succession.Refuse || m.Busy || !strings.Contains(m.Reason, says) {
		t.Errorf("%+v, %v; want to be refused: %s", m, err, says)
	}
	eventually(t, "refusal is noted", func() bool {
		r := a.role(t, succession.Active)
		return r.Refusals == 1 && r.LastRefusal.Version == "v9"
	})
	a.servesAll(t)
}

// many is as many names as a large node has descriptors.
func many() (names, held []string) {
	for i := range 4000 {
		name := fdstore.Name{Kind: fdstore.Queue, Cookie: uint64(i)}.String()
		names, held = append(names, name), append(held, fmt.Sprintf("%s=%d", name, i))
	}
	return names, held
}

// Either side may be killed or stopped in the middle of 4,000 descriptors, too, by processes
// with a soft limit of 1,024 open files: the other one has all of them.
func TestFourThousandInterrupted(t *testing.T) {
	names, held := many()
	want := strings.Join(held, ",")
	tests := []struct {
		point  fault.Point
		killed bool // or stopped
		gives  bool // the one that stays
	}{
		{fault.TakeDescriptors, true, true},
		{fault.TakeAll, true, true},
		{fault.TakeDelivered, true, true},
		{fault.TakeAll, false, true},
		{fault.GiveAll, true, false},
		{fault.GiveAll, false, false},
	}
	if testing.Short() {
		tests = tests[:1]
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s, killed %t", tt.point, tt.killed), func(t *testing.T) {
			a := newShare(t)
			a.soft = 1024
			a.mode(t, "", "put "+strings.Join(names, " "))
			a.start(t, "answer=5s", "take=5s", "hand=5s")
			a.serves(t)
			a.mode(t, "", "")
			b := a.beside(t)
			b.soft = 1024
			one, stays := b, a
			if !tt.gives {
				one, stays = a, b
			}
			what := string(tt.point)
			if !tt.killed {
				what = fault.Stop + what
			}
			one.arrange(t, what)
			b.start(t)
			if tt.killed {
				<-one.exited
			} else {
				eventually(t, "point", one.stopped)
			}
			if tt.point != fault.TakeDescriptors { // before that, the daemon was not stopped
				if got := stays.serves(t).inherited; got != want {
					t.Errorf("%d descriptors, want %d", strings.Count(got, "=")+1, len(names))
				}
			}
			eventually(t, "all is held", func() bool {
				s, err := api.AskSupervisor(t.Context(), filepath.Join(stays.dir, "run"))
				return err == nil && s.Serves() && s.Descriptors == len(names)
			})
			if !tt.killed {
				kill(t, one.cmd.Process.Pid, unix.SIGCONT)
			}
		})
	}
}
