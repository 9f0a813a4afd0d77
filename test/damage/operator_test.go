// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// looker is a command that goes on until it is interrupted.
type looker struct {
	*exec.Cmd

	out, err chain.Log
}

// look starts a command against the rig's daemon.
func (r *rig) look(line string) *looker {
	r.t.Helper()
	l := &looker{}
	args := append(strings.Fields(line), "--socket", r.socket())
	l.Cmd = exec.CommandContext(r.t.Context(), filepath.Join(r.bin, "nsqueuectl"), args...)
	l.Stdout, l.Stderr = &l.out, &l.err
	nstest.Must(r.t, l.Start())
	r.t.Cleanup(func() {
		if l.ProcessState == nil { // the test has failed
			_ = l.Process.Kill()
			_ = l.Wait()
		}
	})
	return l
}

// await waits until the command has written a word to its output or beside it.
func (l *looker) await(t *testing.T, what, word string) {
	t.Helper()
	nstest.Eventually(t, patience, l.Args[1]+" "+what, func() bool {
		return l.out.Contains(word) || l.err.Contains(word)
	})
}

// end interrupts the command, which is no failure.
func (l *looker) end(t *testing.T) {
	t.Helper()
	nstest.Must(t, l.Process.Signal(syscall.SIGINT))
	if err := l.Wait(); err != nil {
		t.Errorf("%s: %v: %s", l, err, l.err.String())
	}
}

// TestLookingGoesOn kills the daemon while commands watch it. Each of them goes
// on with the next one, which answers for the same pods.
func TestLookingGoesOn(t *testing.T) {
	r := newRig(t, api.Fail)
	r.inspector = nsqueued
	r.start()
	p := r.attach("first")
	watch, capture := r.look("watch"), r.look("capture -w "+filepath.Join(r.dir, "a.pcapng"))
	list, status := r.look("list --watch"), r.look("status --watch")
	stats, events := r.look("stats --interval 200ms"), r.look("events --follow")
	watch.await(t, "begins", "watching; ")
	capture.await(t, "begins", "capturing; ")
	for _, l := range []*looker{list, stats} {
		l.await(t, "shows the pod", "first")
	}
	before := r.status().PID
	status.await(t, "shows the daemon", strconv.Itoa(before))
	ping := func() {
		if got := p.peer.Ping(t, p.IPv4(), 1, patience); got != 1 {
			t.Error("no answer")
		}
	}
	ping()
	watch.await(t, "sees it", "packet: 1,")

	nstest.Must(t, syscall.Kill(before, syscall.SIGKILL))
	after := r.awaitWorker(before).PID
	r.attach("second")
	events.await(t, "tells of the takeover", string(api.EventTakeOver))
	status.await(t, "shows the next daemon", strconv.Itoa(after))
	for _, l := range []*looker{list, stats} {
		l.await(t, "shows the next pod", "second")
	}
	for l, word := range map[*looker]string{watch: "watching; ", capture: "capturing; "} {
		l.await(t, "says that the daemon was away", "nsqueued does not answer; waiting for it")
		nstest.Eventually(t, patience, l.Args[1]+" begins again", func() bool {
			return strings.Count(l.err.String(), word) == 2
		})
	}
	seen := strings.Count(watch.out.String(), "icmp")
	ping()
	nstest.Eventually(t, patience, "watch sees more", func() bool {
		return strings.Count(watch.out.String(), "icmp") >= seen+2
	})
	for _, l := range []*looker{watch, capture, list, status, stats, events} {
		l.end(t)
	}
	if text := capture.err.String(); !strings.Contains(text, "packets written") {
		t.Errorf("capture: %s", text)
	}
}
