// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/spool"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// disk is a small file system of its own at a directory.
type disk struct {
	dir  string
	page int64
}

// diskPages is how many pages it has.
const diskPages = 16

func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &disk{dir: dir, page: int64(os.Getpagesize())}
	options := fmt.Sprintf("size=%d,mode=700", diskPages*d.page)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// setReadOnly makes it read-only, or writable again.
func (d *disk) setReadOnly(t *testing.T, yes bool) {
	t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if yes {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", d.dir, "", flags, ""); err != nil {
		t.Fatal(err)
	}
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// leave fills it, but for so many pages.
func (d *disk) leave(t *testing.T, pages int64) {
	t.Helper()
	d.empty(t)
	free := d.free(t) - pages
	if err := os.WriteFile(d.ballast(), make([]byte, free*d.page), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.free(t); got != pages {
		t.Fatalf("%d pages are free, want %d", got, pages)
	}
}

// empty ends what leave has begun.
func (d *disk) empty(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(d.ballast()); err != nil {
		t.Fatal(err)
	}
}

func (d *disk) free(t *testing.T) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail)
}

// newDiskRig starts a daemon whose attachments are in a file system of their
// own.
func newDiskRig(t *testing.T) (*rig, *disk) {
	t.Helper()
	r := newRig(t, api.Fail)
	d := newDisk(t, filepath.Join(r.dir, "attachments"))
	r.start(t)
	t.Cleanup(func() {
		if _, err := r.Client.DetachAll(lasting(t)); err != nil {
			t.Error(err)
		}
	})
	return r, d
}

// attachAs calls ADD under Fail, which has to work.
func (r *rig) attachAs(t *testing.T, id string, pod *nstest.NetNS) call {
	t.Helper()
	c := r.newCall(pod.Path())
	c.containerID = id
	if o := c.run(t, "ADD"); o.failed {
		t.Fatal(o.stdout, o.stderr)
	}
	return c
}

// wantRefused calls ADD, which has to fail with the reason and the name of the
// file, and to leave nothing.
func (r *rig) wantRefused(t *testing.T, reason syscall.Errno) {
	t.Helper()
	pod := nstest.New(t)
	c := r.newCall(pod.Path())
	c.containerID = "refused"
	before := r.stateFiles(t)
	o := c.run(t, "ADD")
	o.expectCode(t, api.CodeInternal)
	file := filepath.Join(r.dir, "attachments", "refused@eth0.json")
	if !strings.Contains(o.stdout, file) || !strings.Contains(o.stdout, reason.Error()) {
		t.Errorf("ADD: %s; want %s and %q", o.stdout, file, reason.Error())
	}
	if after := r.stateFiles(t); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("files %v, were %v", after, before)
	}
	for what, left := range map[string]string{
		"tables": pod.Run(t, "nft", "list", "tables"),
		"queues": pod.Run(t, "cat", "/proc/net/netfilter/nfnetlink_queue"),
	} {
		if left != "" {
			t.Errorf("%s are left: %s", what, left)
		}
	}
	// What a runtime does after an ADD that failed.
	if o := c.run(t, "DEL"); o.failed || o.stderr != "" {
		t.Errorf("DEL of what was refused: %s%s", o.stdout, o.stderr)
	}
}

// wantInspected expects the pod to be attached and its packets to be inspected.
func (r *rig) wantInspected(t *testing.T, c call, pod, peer *nstest.NetNS) {
	t.Helper()
	if err := r.Client.Check(t.Context(), c.key()); err != nil {
		t.Error(err)
	}
	before := r.seen(t, c.key())
	if got := peer.Ping(t, pod.IPv4(), 3, patience); got != 3 || r.seen(t, c.key()) == before {
		t.Errorf("%d of 3 pings answered, %d packets inspected", got, r.seen(t, c.key())-before)
	}
}

// TestDiskFull fills the state directory: to the last page, so that nothing can
// be recorded, and to the last but one, so that attaching fails at its end.
func TestDiskFull(t *testing.T) {
	r, d := newDiskRig(t)
	pod, peer := nstest.Pair(t)
	stays := r.attachAs(t, "stays", pod)
	goes := r.attachAs(t, "goes", nstest.New(t))
	for pages := range int64(2) {
		d.leave(t, pages)
		r.wantRefused(t, syscall.ENOSPC)
	}
	d.leave(t, 0)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.wantInspected(t, stays, pod, peer)
	if o := goes.run(t, "DEL"); o.failed || o.stderr != "" {
		t.Errorf("DEL: %s%s", o.stdout, o.stderr)
	}
	r.eventuallyAttached(t, stays.key())
	d.empty(t)
	goes.run(t, "ADD")
	r.eventuallyAttached(t, stays.key(), goes.key())
}

// TestDiskReadOnly makes the state directory read-only while pods are attached,
// and starts the daemon again.
func TestDiskReadOnly(t *testing.T) {
	r, d := newDiskRig(t)
	pod, peer := nstest.Pair(t)
	stays := r.attachAs(t, "stays", pod)
	gone, err := nstest.Create("gone")
	if err != nil {
		t.Fatal(err)
	}
	goes := r.attachAs(t, "goes", gone)
	still := r.attachAs(t, "still-there", nstest.New(t))
	d.setReadOnly(t, true)
	r.wantRefused(t, syscall.EROFS)
	for _, c := range []call{goes, still} {
		if o := c.run(t, "DEL"); o.failed || o.stderr != "" {
			t.Errorf("DEL: %s%s", o.stdout, o.stderr)
		}
	}
	r.eventuallyAttached(t, stays.key())
	if err := gone.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.wantInspected(t, stays, pod, peer)
	// The records of both are there yet. One has lost its netns. Of the other,
	// nothing tells that its pod was to go: to inspect it is the safe side.
	r.eventuallyAttached(t, stays.key(), still.key())
	if o := still.run(t, "DEL"); o.failed || o.stderr != "" {
		t.Errorf("DEL: %s%s", o.stdout, o.stderr)
	}
	d.setReadOnly(t, false)
	c := r.attachAs(t, "still-there", nstest.New(t))
	r.eventuallyAttached(t, stays.key(), c.key())
}

// TestSpoolDiskFull calls the plugin while there is neither a daemon nor room
// to leave it the call. The chain goes on and the log says what that means.
func TestSpoolDiskFull(t *testing.T) {
	r := startRig(t, api.Ignore)
	pod, err := nstest.Create("pod")
	if err != nil {
		t.Fatal(err)
	}
	stays := r.attachAs(t, "stays", nstest.New(t))
	goes := r.attachAs(t, "goes", pod)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	d := newDisk(t, spool.Path(r.Socket()))
	d.leave(t, 0)
	never := r.newCall(nstest.New(t).Path())
	never.containerID, never.config["failurePolicy"] = "never", api.Ignore
	if o := never.run(t, "ADD"); o.failed || o.stdout != prevResult ||
		!lost(o, "ADD not stored: the pod stays uninspected") {
		t.Errorf("ADD: %s%s", o.stdout, o.stderr)
	}
	if o := goes.run(t, "DEL"); o.failed || o.stdout != "" ||
		!lost(o, "DEL not stored: the pod stays attached until nsqueued notices that it is gone") {
		t.Errorf("DEL: %s%s", o.stdout, o.stderr)
	}
	d.empty(t)
	if got := r.spooled(t); len(got) != 0 {
		t.Errorf("spooled %v, want nothing", got)
	}
	if err := pod.Remove(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.eventuallyAttached(t, stays.key())
	if _, err := r.Client.DetachAll(t.Context()); err != nil {
		t.Error(err)
	}
}

// lost reports whether the plugin says loudly what is lost, and why.
func lost(o outcome, what string) bool {
	for line := range strings.Lines(o.stderr) {
		if strings.Contains(line, "level=ERROR") && strings.Contains(line, what) {
			return strings.Contains(line, syscall.ENOSPC.Error())
		}
	}
	return false
}
