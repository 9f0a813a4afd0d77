// SPDX-License-Identifier: Apache-2.0

//go:build netns

package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/registry"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// rounds are more verifications than it takes to detach what is gone.
const rounds = 4

// hiddenPod returns a netns that is mounted nowhere, has an interface eth0, and
// has one process in it.
func hiddenPod(t *testing.T) (*os.File, *nstest.Cmd) {
	t.Helper()
	pod, err := nstest.Create("hidden")
	nstest.Must(t, err)
	pod.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "other")
	f := pod.File(t)
	process := sleepIn(t, pod)
	nstest.Must(t, pod.Remove())
	return f, process
}

// sleepIn starts a process in the pod that lives until the test ends.
func sleepIn(t *testing.T, pod *nstest.NetNS) *nstest.Cmd {
	t.Helper()
	process := pod.Command("sleep", "infinity")
	nstest.Must(t, process.Start())
	t.Cleanup(func() { end(process) })
	return process
}

func end(process *nstest.Cmd) {
	_ = process.Process.Kill()
	_ = process.Wait()
}

func (d *daemon) wantAttached(want int) {
	d.t.Helper()
	if list, err := d.List(d.t.Context()); err != nil || len(list) != want {
		d.t.Fatalf("attachments %v, %v, want %d", list, err, want)
	}
}

// wantKept expects that an attachment, however old, stays attached.
func (d *daemon) wantKept(id string) {
	d.t.Helper()
	d.SetAge(id, -2*registry.EmptyTime)
	for range rounds {
		d.Verify(d.t.Context())
		d.wantAttached(1)
	}
}

// A daemon that sees neither where netns are mounted nor all processes cannot know
// that a pod is gone, and says so.
func TestUnseenPodStays(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.hidden = true
	d.restart()
	pod, process := hiddenPod(t)
	end(process) // those that there are, it would not see
	req := request("one", nil, api.Fail)
	req.NetnsPath = "/run/netns/mounted-elsewhere"
	a, err := d.Attach(t.Context(), req, pod)
	nstest.Must(t, err)
	d.wantKept("one")
	doubts := d.Doubts()
	if doubts == nil || doubts.Attachments != 1 || doubts.Key != a.Key ||
		!strings.Contains(doubts.Reason, "hostPID") ||
		!strings.Contains(doubts.Reason, "propagation") {
		t.Errorf("doubts %+v", doubts)
	}
	d.wantEvent(api.EventDoubt, "nsqueued cannot tell whether")
	nstest.Must(t, d.Detach(t.Context(), a.Key))
	d.Verify(t.Context())
	if doubts := d.Doubts(); doubts != nil {
		t.Errorf("doubts %+v of nothing", doubts)
	}
}

// The pod may rename its interface, and the process by which the netns was found
// may end before others.
func TestRenamedInterfaceStays(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, first := hiddenPod(t)
	self := nstest.Open(t, fmt.Sprintf("/proc/%d/ns/net", first.Process.Pid))
	last := sleepIn(t, self)
	req := request("one", nil, api.Fail)
	req.NetnsPath = fmt.Sprintf("/proc/%d/ns/net", first.Process.Pid)
	_, err := d.Attach(t.Context(), req, pod)
	nstest.Must(t, err)
	self.Run(t, "ip", "link", "set", "eth0", "name", "renamed")
	end(first)
	d.wantKept("one")
	end(last)
	d.Verify(t.Context())
	d.wantAttached(0)
}

// A record that was made up has no interface that could be missing.
func TestRecoveredStays(t *testing.T) {
	d := startHeld(t, inspect.AcceptAll{})
	pod, process := hiddenPod(t)
	self := nstest.Open(t, fmt.Sprintf("/proc/%d/ns/net", process.Process.Pid))
	self.Run(t, "ip", "link", "set", "eth0", "name", "net1")
	req := request("one", nil, api.Fail)
	req.NetnsPath = fmt.Sprintf("/proc/%d/ns/net", process.Process.Pid)
	_, err := d.Attach(t.Context(), req, pod)
	nstest.Must(t, err)
	nstest.Must(t, d.Suspend())
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	nstest.Must(t, os.Remove(filepath.Join(d.dir, "attachments", "one@eth0.json")))
	d.run()
	list, err := d.List(t.Context())
	nstest.Must(t, err)
	if len(list) != 1 || list[0].Key.Ifname != "eth0" {
		t.Fatalf("recovered %v", list)
	}
	d.wantKept("recovered-" + strconv.FormatUint(list[0].Netns.Cookie, 10))
	end(process)
	d.Verify(t.Context())
	d.wantAttached(0)
}

// mountNetns mounts a netns at a path until the test ends.
func mountNetns(t *testing.T, netns *os.File, path string) {
	t.Helper()
	nstest.Must(t, os.WriteFile(path, nil, 0o600))
	source := fmt.Sprintf("/proc/self/fd/%d", netns.Fd())
	nstest.Must(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	t.Cleanup(func() {
		nstest.Must(t, unix.Unmount(path, unix.MNT_DETACH))
		nstest.Must(t, os.Remove(path))
	})
}

// What a daemon does not find after its start is not gone, if it cannot see it. It
// restores it when it can.
func TestUnseenRecordStays(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.hidden = true
	pod, err := nstest.Create("hidden")
	nstest.Must(t, err)
	f := pod.File(t)
	a := d.attach("one", pod, api.Fail)
	nstest.Must(t, d.Suspend())
	nstest.Must(t, d.Registry.Close())
	nstest.Must(t, d.store.Close())
	nstest.Must(t, pod.Remove())
	d.run()
	d.wantEvent(api.EventFailure, "its netns cannot be found")
	for range rounds {
		d.Verify(t.Context())
	}
	d.wantAttached(0)
	problems := d.Problems()
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "hostPID") {
		t.Errorf("problems %v", problems)
	}
	mountNetns(t, f, pod.Path())
	d.Verify(t.Context())
	nstest.Must(t, d.Check(t.Context(), a.Key))
	if problems := d.Problems(); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
}

// The node may have a netns mounted where the daemon does not have it.
func TestRestoredFromElsewhere(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	pod, err := nstest.Create("moved")
	nstest.Must(t, err)
	mountNetns(t, pod.File(t), pod.Path()+"-away")
	a := d.attach("one", pod, api.Fail)
	nstest.Must(t, pod.Remove())
	d.wantKept("one")
	d.restart()
	nstest.Must(t, d.Check(t.Context(), a.Key))
	d.wantKept("one")
}

// A netns that was at its path and is not there any more is gone, where nothing
// else holds it.
func TestSeenRecordIsForgotten(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.hidden = true
	pod, err := nstest.Create("seen")
	nstest.Must(t, err)
	d.attach("one", pod, api.Ignore)
	foreign := d.runWithForeignReader(pod)
	d.Verify(t.Context())
	if problems := d.Problems(); len(problems) != 1 {
		t.Errorf("problems %v", problems)
	}
	nstest.Must(t, foreign.Close())
	nstest.Must(t, pod.Remove())
	d.Verify(t.Context())
	d.wantNothing()
	if problems := d.Problems(); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
}

// /run and /var/run are one directory, whichever of them a container has.
func TestOtherNameOfRun(t *testing.T) {
	d := start(t, inspect.AcceptAll{})
	d.hidden = true
	d.restart()
	pod := nstest.New(t)
	req := request("one", pod, api.Fail)
	req.NetnsPath = "/var" + pod.Path()
	nstest.OwnDirectory(t, "/var") // as in an image that has no /var/run
	a, err := d.Attach(t.Context(), req, pod.File(t))
	nstest.Must(t, err)
	d.wantKept("one")
	if doubts := d.Doubts(); doubts != nil {
		t.Errorf("doubts %+v", doubts)
	}
	d.restart()
	nstest.Must(t, d.Check(t.Context(), a.Key))
}
