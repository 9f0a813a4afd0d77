// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestUpgradeCommand upgrades nsqueued itself as an operator does, under load:
// to a version that works, and to one that is refused.
func TestUpgradeCommand(t *testing.T) {
	r := newRig(t, api.Fail)
	r.inspector = nsqueued
	r.start()
	pods := r.pods(2)
	before := r.status()
	next := otherVersion(t, before.Version)
	var after api.Status
	got := r.underLoad(pods, func() {
		wait(400 * time.Millisecond)
		r.installVersion(before.Version, next)
		out, err := r.nsqueuectl("upgrade", "-o", "json")
		nstest.Must(t, err)
		r.wantUpgraded(out, before, next)
		after = r.status()
		wait(400 * time.Millisecond)

		nstest.Must(t, replaceFile(r.supervisor.Path, []byte("#!/bin/sh\necho v9\n")))
		out, err = r.nsqueuectl("upgrade", "--timeout", "500ms")
		if err == nil || !strings.Contains(out, "the log of its supervisor says why") {
			t.Errorf("upgrade to a version without a handover: %v: %s", err, out)
		}
	})
	if got.Lost > 0 || r.status().PID != after.PID || r.status().Orphans > 0 {
		t.Errorf("%v; process %d, then %d; want nothing lost, and the refused upgrade unnoticed",
			got, after.PID, r.status().PID)
	}
	if !r.log.Contains("upgrade refused") {
		t.Error("the supervisor does not say why it refused")
	}
	if s := r.status(); s.Counters.Packets < uint64(got.Sent)/4 || s.Attachments != len(pods) {
		t.Errorf("%d packets of %d inspected since the upgrade, %d attachments",
			s.Counters.Packets, got.Sent, s.Attachments)
	}
}

// Without a supervisor the command says what does it instead.
func TestUpgradeCommandUnsupervised(t *testing.T) {
	r := newRig(t, api.Ignore)
	d := chain.NewDaemon(chain.DaemonConfig{
		Bin: r.bin, Socket: r.socket(), StateDir: r.dir, Hook: "nft",
	})
	t.Cleanup(func() { r.check(d.Stop()) })
	nstest.Must(t, d.Start(t.Context()))
	out, err := r.nsqueuectl("upgrade")
	if err == nil || !strings.Contains(out, "no supervisor") ||
		!strings.Contains(out, "nsqueued supervise") {
		t.Errorf("upgrade: %v: %s", err, out)
	}
	if s := r.status(); s.PID != d.PID() {
		t.Errorf("process %d serves, want still %d", s.PID, d.PID())
	}
}

func (r *rig) wantUpgraded(out string, before api.Status, next string) {
	r.t.Helper()
	type identity struct {
		Version string
		PID     int
	}
	var answer struct{ From, To identity }
	nstest.Must(r.t, json.Unmarshal([]byte(out), &answer))
	if answer.From != (identity{before.Version, before.PID}) || answer.To.Version != next ||
		answer.To.PID == before.PID {
		r.t.Errorf("upgraded %+v, want from %s, process %d, to %s", answer, before.Version,
			before.PID, next)
	}
}

func (r *rig) nsqueuectl(args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(r.bin, "nsqueuectl"), args...)
	cmd.Env = append(os.Environ(), "NSQUEUE_SOCKET="+r.socket())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// otherVersion returns one that takes the given one's place in a program.
func otherVersion(t *testing.T, version string) string {
	t.Helper()
	other := []byte(version)
	if len(other) == 0 {
		t.Fatal("nsqueued has no version")
	}
	other[0] ^= 1
	return string(other)
}

// installVersion puts the program in its own place with another version in it.
func (r *rig) installVersion(version, next string) {
	r.t.Helper()
	b, err := os.ReadFile(r.supervisor.Path)
	nstest.Must(r.t, err)
	nstest.Must(r.t, replaceFile(r.supervisor.Path, bytes.ReplaceAll(b, []byte(version), []byte(next))))
}

// replaceFile replaces a program as a package manager does.
func replaceFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
