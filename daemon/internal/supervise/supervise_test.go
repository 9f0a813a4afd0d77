// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/internal/fdstore"
)

func TestKilledWorker(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i t1i q1i q2f l0i")
	r.start(t)
	first := r.live(t)
	if first.inherited != "" || first.restarts != 0 || first.version != "v1" {
		t.Errorf("the first worker: %+v", first)
	}
	kill(t, first.pid, unix.SIGKILL)
	second := r.live(t)
	const all = "q1i=0,t1i=1,q1i=2,q2f=3,l0i=4"
	if second.inherited != all || second.restarts != 1 || second.pid == first.pid {
		t.Errorf("after kill: %+v, want %s", second, all)
	}
	kill(t, second.pid, unix.SIGUSR1)
	r.want(t, "removed")
	kill(t, second.pid, unix.SIGKILL)
	if third := r.live(t); third.inherited != "t1i=1,q2f=3,l0i=4" {
		t.Errorf("after removal of q1i and kill: %+v", third)
	}
}

// What a worker has sent counts, however soon after that it dies.
func TestStoredJustBeforeDeath(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put-and-die q1i q2f")
	r.start(t, "deaths=0")
	r.born(t)
	second := r.born(t)
	third := r.live(t)
	if want := "q1i=0,q2f=1"; second.inherited != want {
		t.Errorf("after one death: %q, want %q", second.inherited, want)
	}
	if want := "q1i=0,q2f=1,q1i=0,q2f=1"; third.inherited != want {
		t.Errorf("after two deaths: %q, want %q", third.inherited, want)
	}
}

func TestStoppedWorkerIsKilled(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "stops")
	// A grace that the test would not wait for.
	r.start(t, "abort=1h")
	r.live(t)
	r.mode(t, "", "")
	if second := r.live(t); second.restarts != 1 {
		t.Errorf("%+v, want the first restart", second)
	}
	r.logged(t, "daemon hangs", "killed by SIGKILL")
}

func TestSilentWorkerIsAborted(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "silent")
	r.start(t, "watchdog=300ms")
	r.live(t)
	r.mode(t, "", "")
	r.live(t)
	// The Go runtime's report of what every goroutine does.
	r.logged(t, "daemon hangs: aborting it", "SIGABRT: abort", "runWorker")
}

func TestWorkerThatIsNotReadyInTime(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "never-ready")
	r.start(t, "abort=1h")
	r.born(t)
	r.mode(t, "", "")
	r.live(t)
	r.logged(t, "daemon hangs", "ready=false")
}

func TestStop(t *testing.T) {
	for name, tt := range map[string]struct {
		mode string
		sig  unix.Signal
		code int
	}{
		"in order":          {"", unix.SIGTERM, 0},
		"interrupt":         {"", unix.SIGINT, 0},
		"the worker's code": {"exits", unix.SIGTERM, 7},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.mode(t, "", tt.mode)
			r.start(t, "stop=1h")
			r.live(t)
			kill(t, r.cmd.Process.Pid, tt.sig)
			r.want(t, "stopping keeps=true")
			if code := r.exit(t); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			r.noSocket(t)
		})
	}
}

// A worker that does not stop is killed, whether it has come to hear of it or not.
func TestStopOfADeafWorker(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "deaf")
	r.start(t, "stop=300ms")
	r.live(t)
	kill(t, r.cmd.Process.Pid, unix.SIGTERM)
	if code := r.exit(t); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	r.logged(t, "daemon does not end: killing it")
	r.noSocket(t)
}

func (r *rig) noSocket(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(r.dir, socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A worker that is stopped by a signal hears no SIGTERM, in whichever order the
// supervisor learns of the two.
func TestStopOfAStoppedWorker(t *testing.T) {
	for name, stopLater := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.mode(t, "", "deaf")
			r.start(t, "stop=1h")
			worker := r.live(t).pid
			if !stopLater {
				kill(t, worker, unix.SIGSTOP)
			}
			kill(t, r.cmd.Process.Pid, unix.SIGTERM)
			if stopLater {
				r.want(t, "stopping keeps=true")
				kill(t, worker, unix.SIGSTOP)
			}
			if code := r.exit(t); code != 128+9 {
				t.Errorf("exit code %d, want 137", code)
			}
		})
	}
}

func TestHangup(t *testing.T) {
	r := newRig(t)
	r.start(t)
	r.live(t)
	kill(t, r.cmd.Process.Pid, unix.SIGHUP)
	r.want(t, "hup")
}

func TestGivesUp(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i q2f q3f")
	r.start(t, "window=1h")
	first := r.live(t)
	r.mode(t, "", "crash")
	kill(t, first.pid, unix.SIGKILL)
	for range 2 {
		// The second restart is soon enough under either policy.
		if b := r.born(t); b.inherited != "q1i=0,q2f=1,q3f=2" {
			t.Errorf("%+v, want all descriptors", b)
		}
	}
	if code := r.exit(t); code != 3 {
		t.Errorf("exit code %d, want the worker's, 3", code)
	}
	r.logged(t, "giving up", "deaths=3", "ignoreDescriptors=1", "failDescriptors=2",
		"died 3 times within 1h0m0s")
}

func TestCrashLoopReleasesIgnored(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i q2f t1i l0f")
	r.start(t, "deaths=0")
	first := r.live(t)
	r.mode(t, "", "crash")
	kill(t, first.pid, unix.SIGKILL)
	for range 3 {
		if b := r.born(t); b.inherited != "q1i=0,q2f=1,t1i=2,l0f=3" {
			t.Errorf("%+v, want all descriptors", b)
		}
	}
	r.mode(t, "", "")
	if b := r.live(t); b.inherited != "q2f=1,l0f=3" || b.restarts != 4 {
		t.Errorf("%+v, want those of Fail alone after four deaths", b)
	}
}

func TestForeignNotification(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "put q1i")
	r.start(t)
	first := r.live(t)
	conn, err := net.DialUnix("unixgram", nil,
		&net.UnixAddr{Name: filepath.Join(r.dir, socketName), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "FDSTOREREMOVE=1\nFDNAME=q1i"); err != nil {
		t.Fatal(err)
	}
	kill(t, first.pid, unix.SIGKILL)
	if b := r.live(t); b.inherited != "q1i=0" {
		t.Errorf("%+v, want what the worker has stored", b)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "orphan")
	r.start(t)
	r.born(t)
	var pid int
	if _, err := fmt.Sscanf(r.next(t), "orphan %d", &pid); err != nil {
		t.Fatal(err)
	}
	r.want(t, "ready")
	eventually(t, "end of the orphan", func() bool {
		return errors.Is(unix.Kill(pid, 0), unix.ESRCH) // a zombie would still exist
	})
}

// Without its supervisor a worker stops, and the next supervisor can start.
func TestKilledSupervisor(t *testing.T) {
	r := newRig(t)
	r.mode(t, "", "bereaved")
	r.start(t)
	r.live(t)
	kill(t, r.cmd.Process.Pid, unix.SIGKILL)
	for r.next(t) != "keeps nothing" {
	}
	r.exit(t)
	r.mode(t, "", "")
	r.start(t)
	r.live(t)
}

func TestOneSupervisorAtATime(t *testing.T) {
	r := newRig(t)
	r.start(t)
	r.live(t)
	second := &rig{dir: r.dir}
	second.start(t)
	if code := second.exit(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	second.logged(t, "another supervisor uses this runtime directory")
}

func TestThousandDescriptors(t *testing.T) {
	r := newRig(t)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fdstore.Name{Kind: fdstore.Queue, Cookie: uint64(i)}.String()
	}
	r.mode(t, "", "put "+strings.Join(names, " "))
	r.start(t)
	first := r.live(t)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s=%d", name, i)
	}
	began := time.Now()
	kill(t, first.pid, unix.SIGKILL)
	second := r.live(t)
	if got := strings.Split(second.inherited, ","); !slices.Equal(got, names) {
		t.Errorf("%d descriptors, want %d: %.200s", len(got), len(names), second.inherited)
	}
	t.Logf("ready again after %v", time.Since(began))
}
