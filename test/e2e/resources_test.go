// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// fileLimit is how many files the daemon may open: enough for some pods, and
// for a quarter of it in connections.
const fileLimit = 192

// TestFileLimit attaches pods until the daemon may open no more files. That is
// said, and harms no other pod; pods can be deleted then, and others take their
// place.
func TestFileLimit(t *testing.T) {
	r := newWrappedRig(t, api.Fail, "sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, fileLimit), "sh")
	r.start(t)
	pod, peer := nstest.Pair(t)
	first := r.newCall(pod.Path())
	if o := first.run(t, "ADD"); o.failed {
		t.Fatal(o.stdout, o.stderr)
	}
	attached, refused := r.attachUntilRefused(t)
	want := append(keysOf(attached), first.key())
	t.Logf("%d pods attached with %d files", len(want), fileLimit)
	r.wantUntouched(t, refused)
	// Clients that say nothing take no more than their share.
	for range fileLimit / 2 {
		c, err := net.Dial("unix", r.Socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, key := range want {
		if err := r.Client.Check(t.Context(), key); err != nil {
			t.Errorf("check %s: %v", key, err)
		}
	}
	before := r.seen(t, first.key())
	if got := peer.Ping(t, pod.IPv4(), 3, patience); got != 3 || r.seen(t, first.key()) == before {
		t.Errorf("%d of 3 pings answered, %d packets inspected", got, r.seen(t, first.key())-before)
	}
	r.deleteAll(t, attached)
	r.eventuallyAttached(t, first.key())
	if o := refused.run(t, "ADD"); o.failed {
		t.Errorf("ADD with room again: %s", o.stdout)
	}
	r.eventuallyAttached(t, first.key(), refused.key())
	if _, err := r.Client.DetachAll(t.Context()); err != nil {
		t.Error(err)
	}
}

// attachUntilRefused returns the calls that attached, and the one that did not.
func (r *rig) attachUntilRefused(t *testing.T) (attached []call, refused call) {
	t.Helper()
	for i := range fileLimit {
		c := r.newCall(nstest.New(t).Path())
		c.containerID = fmt.Sprintf("many%03d", i)
		o := c.run(t, "ADD")
		if !o.failed {
			attached = append(attached, c)
			continue
		}
		limit := fmt.Sprintf("may open %d (LimitNOFILE= of the unit, ulimit -n)", fileLimit)
		if !strings.Contains(o.stdout, limit) {
			t.Errorf("ADD: %s, want %q", o.stdout, limit)
		}
		if len(attached) == 0 {
			t.Fatal("nothing could be attached")
		}
		return attached, c
	}
	t.Fatalf("%d pods attached with %d files", len(attached), fileLimit)
	return nil, call{}
}

// wantUntouched expects nothing of the call to be left, and that a netns which
// is refused is freed.
func (r *rig) wantUntouched(t *testing.T, c call) {
	t.Helper()
	if i := slices.IndexFunc(r.stateFiles(t), func(name string) bool {
		return strings.Contains(name, c.containerID)
	}); i >= 0 {
		t.Errorf("left: %s", r.stateFiles(t)[i])
	}
	other, err := nstest.Create("refused")
	if err != nil {
		t.Fatal(err)
	}
	freed, err := other.Canary("canary")
	if err != nil {
		t.Fatal(err)
	}
	c.netns = other.Path()
	if o := c.run(t, "ADD"); !o.failed {
		t.Error("attached although the one before was refused")
	}
	for what, left := range map[string]string{
		"tables": other.Run(t, "nft", "list", "tables"),
		"queues": other.Run(t, "cat", "/proc/net/netfilter/nfnetlink_queue"),
	} {
		if left != "" {
			t.Errorf("%s are left: %s", what, left)
		}
	}
	if err := other.Remove(); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, patience, "the kernel frees the refused netns", freed)
}

// seen returns how many packets of an attachment were inspected.
func (r *rig) seen(t *testing.T, key api.Key) uint64 {
	t.Helper()
	for _, a := range r.list(t) {
		if a.Key == key {
			return a.Counters.Packets
		}
	}
	t.Fatalf("%s is not attached", key)
	return 0
}

// deleteAll calls DEL for all at once and expects the daemon to do it.
func (r *rig) deleteAll(t *testing.T, calls []call) {
	t.Helper()
	var deleting sync.WaitGroup
	for _, c := range calls {
		deleting.Go(func() {
			if o := c.run(t, "DEL"); o.failed || o.stderr != "" {
				t.Errorf("DEL %s: %s%s", c.containerID, o.stdout, o.stderr)
			}
		})
	}
	deleting.Wait()
}
