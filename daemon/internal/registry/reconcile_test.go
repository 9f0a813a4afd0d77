// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
	"github.com/nsqueue/nsqueue/daemon/internal/netns"
	"github.com/nsqueue/nsqueue/daemon/internal/nfqueue"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Nothing says that the pod is gone: its netns is mounted nowhere any more, and its
// interface is gone too. That counts at once.
func TestLostDetachOfDeletedLink(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, err := nstest.Create("gone")
	nstest.Must(t, err)
	freed, err := pod.Canary("canary")
	nstest.Must(t, err)
	pod.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "other")
	d.attach("one", pod, api.Fail)
	pod.Run(t, "ip", "link", "set", "eth0", "name", "eth9")
	d.Verify(t.Context())
	d.wantAttached(1)
	f := pod.File(t)
	nstest.Must(t, pod.Remove())
	d.Verify(t.Context())
	d.wantAttached(1) // the interface has another name
	nstest.Must(t, nstest.Within(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() error {
		return exec.Command("ip", "link", "delete", "eth9").Run()
	}))
	nstest.Must(t, f.Close())
	d.Verify(t.Context())
	d.wantNothing()
	d.wantEvent(api.EventLostDetach, "interface is gone")
	nstest.Eventually(t, reply, "the netns is freed", freed)
}

// The interface is still there, because our own sockets keep it; what tells is
// that no process is in the netns, after a while.
func TestLostDetachOfEmptyNetns(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, process := hiddenPod(t)
	req := request("one", nil, api.Fail)
	_, err := d.Attach(t.Context(), req, pod)
	nstest.Must(t, err)
	d.Verify(t.Context())
	d.SetAge("one", -registry.EmptyTime)
	d.Verify(t.Context())
	d.wantAttached(1) // a process is in it
	nstest.Must(t, process.Process.Kill())
	var exit *exec.ExitError
	if err := process.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
	d.SetAge("one", 0)
	d.Verify(t.Context())
	d.wantAttached(1) // it is young
	d.SetAge("one", -registry.EmptyTime)
	d.Verify(t.Context())
	d.wantAttached(0)
	d.wantEvent(api.EventLostDetach, "no process")
}

// An inode is used again, a cookie is not.
func TestRestartWithAnotherNetnsAtThePath(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	old, err := nstest.Create("old")
	nstest.Must(t, err)
	other := nstest.New(t)
	d.attach("one", old, api.Ignore)
	nstest.Must(t, d.Suspend())
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	path := old.Path()
	nstest.Must(t, old.Remove())
	nstest.Must(t, os.Symlink(other.Path(), path))
	t.Cleanup(func() { nstest.Must(t, os.Remove(path)) })
	d.run()
	d.wantNothing(other)
}

// driftingHook arms what the test then takes away.
type driftingHook struct {
	hook.Hook
	last hook.Handle
}

func (h *driftingHook) Open(ns *netns.NetNS, inherited *os.File) (hook.Handle, error) {
	handle, err := h.Hook.Open(ns, inherited)
	h.last = handle
	return handle, err
}

func TestVerifyRepairsTheHook(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	drifting := &driftingHook{Hook: d.hook}
	d.hook = drifting
	d.restart()
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	nstest.Must(t, drifting.last.Disarm())
	if err := d.Check(t.Context(), a.Key); err == nil {
		t.Fatal("a disarmed hook passes the check")
	}
	d.Verify(t.Context())
	nstest.Must(t, d.Check(t.Context(), a.Key))
	nstest.Must(t, peerAnswers(t, peer, pod))
	d.wantEvent(api.EventRepair, "repaired")
}

func TestVerifyRepairsTheQueue(t *testing.T) {
	d := startHeld(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	a := d.attach("one", pod, api.Fail)
	d.unbind(pod)
	if len(stats(t, pod)) != 0 {
		t.Fatal("the queue is still bound")
	}
	// Somebody else is faster.
	foreign := holdQueue(t, pod, nfqueue.DefaultNumber)
	d.Verify(t.Context())
	d.wantEvent(api.EventSecurity, "another program holds this queue")
	if problems := d.Problems(); len(problems) != 1 {
		t.Errorf("problems %v, want one", problems)
	}
	nstest.Must(t, foreign.Close())
	d.Verify(t.Context())
	nstest.Must(t, d.Check(t.Context(), a.Key))
	nstest.Must(t, peerAnswers(t, peer, pod))
	if problems := d.Problems(); len(problems) != 0 {
		t.Errorf("problems %v after the repair", problems)
	}
}

// runWithForeignReader restarts the daemon while another program has taken
// the pod's queue.
func (d *daemon) runWithForeignReader(pod *nstest.NetNS) *nfqueue.Queue {
	d.t.Helper()
	nstest.Must(d.t, d.Suspend())
	nstest.Must(d.t, d.Registry.Close())
	nstest.Must(d.t, d.store.Close())
	foreign := holdQueue(d.t, pod, nfqueue.DefaultNumber)
	d.run()
	return foreign
}

// What another program in the netns prevents is tried again.
func TestRestoreIsTriedAgain(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, peer := nstest.Pair(t)
	d.attach("one", pod, api.Ignore)
	d.attach("two", pod, api.Ignore)
	record := filepath.Join(d.dir, "attachments", "one@eth0.json")
	before, err := os.ReadFile(record)
	nstest.Must(t, err)
	foreign := d.runWithForeignReader(pod)
	d.wantEvent(api.EventSecurity, "not restored")
	nstest.Must(t, d.Detach(t.Context(), api.Key{ContainerID: "two", Ifname: "eth0"}))
	d.Verify(t.Context())
	// Who asks for the same fares no better, and changes nothing.
	if _, err := d.Attach(t.Context(), request("one", pod, api.Ignore), nil); err == nil {
		t.Error("attached although the queue is held")
	}
	if after, err := os.ReadFile(record); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the record changed from %s to %s, %v", before, after, err)
	}
	nstest.Must(t, foreign.Close())
	d.Verify(t.Context())
	list, err := d.List(t.Context())
	if err != nil || len(list) != 1 || list[0].ContainerID != "one" {
		t.Fatalf("attachments %v, %v, want the one that was not detached", list, err)
	}
	nstest.Must(t, peerAnswers(t, peer, pod))
	d.wantEvent(api.EventRepair, "restored")
}

// What could not be restored, was attached by a call and detached by another,
// does not come back.
func TestRestoreIsNotTriedAfterDetach(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, _ := nstest.Pair(t)
	a := d.attach("one", pod, api.Ignore)
	foreign := d.runWithForeignReader(pod)
	d.wantEvent(api.EventSecurity, "not restored")
	nstest.Must(t, foreign.Close())
	d.attach("one", pod, api.Ignore)
	if problems := d.Problems(); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.Verify(t.Context())
	d.wantNothing(pod)
}

// Verifies a node whose pods are what they should be, which most are.
func BenchmarkVerify(b *testing.B) {
	const pods = 200
	d := start(b, inspect.AcceptAll{})
	for i := range pods {
		d.attach(strconv.Itoa(i), nstest.New(b), api.Fail)
	}
	for b.Loop() {
		d.Verify(b.Context())
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/pods, "µs/pod")
	if problems := d.Problems(); len(problems) != 0 {
		b.Fatal(problems)
	}
}
