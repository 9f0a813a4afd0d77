// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// newerState is a daemon that finds a state file of a newer one.
type newerState struct {
	*rig
	calls     []call
	pod, peer *nstest.NetNS

	file   string // of the first call
	before []byte
	all    map[string]string
	rules  string
}

// newNewerState attaches two pods.
func newNewerState(t *testing.T, r *rig) *newerState {
	t.Helper()
	s := &newerState{rig: r}
	s.pod, s.peer = nstest.Pair(t)
	s.calls = []call{r.attachAs(t, "newer", s.pod), r.attachAs(t, "other", nstest.New(t))}
	s.file = filepath.Join(r.dir, "attachments", "newer@eth0.json")
	if got := s.peer.Ping(t, s.pod.IPv4(), 1, patience); got != 1 {
		t.Fatal("pod and peer do not know each other")
	}
	return s
}

// makeNewer makes one of the files newer, and notes what there is.
func (s *newerState) makeNewer(t *testing.T) {
	t.Helper()
	var err error
	if s.before, err = os.ReadFile(s.file); err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(s.before, []byte(`"version": 1,`), []byte(`"version": 2,`), 1)
	if bytes.Equal(newer, s.before) {
		t.Fatalf("no version in %s", s.before)
	}
	s.write(t, newer)
	s.all, s.rules = s.contents(t), s.ruleset(t)
}

// write replaces the file as the daemon does.
func (s *newerState) write(t *testing.T, b []byte) {
	t.Helper()
	err := os.WriteFile(s.file+".new", b, 0o600)
	if err == nil {
		err = os.Rename(s.file+".new", s.file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// contents are all files of the state directory.
func (s *newerState) contents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range s.stateFiles(t) {
		b, err := os.ReadFile(filepath.Join(s.dir, "attachments", name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(b)
	}
	return all
}

// ruleset is what is in the pod's netns, without what its packets have counted.
func (s *newerState) ruleset(t *testing.T) string {
	t.Helper()
	return s.pod.Run(t, "nft", "--stateless", "list", "ruleset")
}

// refusal is what the daemon says.
func (s *newerState) refusal() string {
	return fmt.Sprintf("nsqueued: state file %s: version 2, this daemon knows up to 1: "+
		"written by a newer nsqueued\n", s.file)
}

// wantUntouched expects files and rules to be what they were.
func (s *newerState) wantUntouched(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(s.all, s.contents(t)); diff != "" {
		t.Errorf("state files (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(s.rules, s.ruleset(t)); diff != "" {
		t.Errorf("rules (-before +after):\n%s", diff)
	}
}

// wantTakenUp expects all to be as before.
func (s *newerState) wantTakenUp(t *testing.T) {
	t.Helper()
	s.eventuallyAttached(t, keysOf(s.calls)...)
	s.wantInspected(t, s.calls[0], s.pod, s.peer)
	if _, err := s.Client.DetachAll(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNewerState starts a daemon over a state file that a newer one has
// written: it ends and touches nothing.
func TestNewerState(t *testing.T) {
	s := newNewerState(t, startRig(t, api.Fail))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.makeNewer(t)
	err := s.Start(t.Context())
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 || !s.Log.Contains(s.refusal()) {
		t.Errorf("start: %v; want exit code 1 and %q", err, s.refusal())
	}
	s.wantUntouched(t)
	s.write(t, s.before)
	s.start(t)
	s.wantTakenUp(t)
}

// TestNewerStateSupervised does so under a supervisor, which keeps the queues:
// what waits in them meanwhile is inspected in the end.
func TestNewerStateSupervised(t *testing.T) {
	r := newWrappedRig(t, api.Fail, "sh", "-c",
		`program="$1"; shift; exec "$program" supervise --max-deaths 0 --runtime-dir "$0" -- "$@"`,
		t.TempDir())
	r.start(t)
	s := newNewerState(t, r)
	s.makeNewer(t)
	status, err := s.Client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, patience, "the next daemon refuses to start", func() bool {
		return s.Log.Contains(s.refusal()) && s.Log.Contains(`status="exited with 1"`)
	})
	s.wantUntouched(t)
	const queue = "/proc/net/netfilter/nfnetlink_queue"
	if held := strings.Fields(s.pod.Run(t, "cat", queue)); len(held) == 0 || held[0] != "80" {
		t.Errorf("queues %v; want number 80 held", held)
	}
	to := s.pod.ListenUDP(t, netip.AddrPortFrom(s.pod.IPv4(), 0).String())
	const late = "late"
	if _, err := s.peer.DialUDP(t, to.LocalAddr().String()).Write([]byte(late)); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, patience, "the datagram waits in the queue", func() bool {
		held := strings.Fields(s.pod.Run(t, "cat", queue))
		return len(held) > 2 && held[2] != "0"
	})
	s.write(t, s.before)
	got := make([]byte, len(late))
	if err := to.SetReadDeadline(time.Now().Add(nstest.Patient(patience))); err != nil {
		t.Fatal(err)
	}
	if n, err := to.Read(got); err != nil || string(got[:n]) != late {
		t.Errorf("received %q, %v; want the datagram that waited", got[:n], err)
	}
	s.wantTakenUp(t)
}
