// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"os/exec"
	"testing"
	"time"
)

const pings = 2

// ping returns how many of the pings were answered. It waits so long only for
// those that are not.
func (p *pod) ping(t *testing.T, to *pod) int {
	t.Helper()
	return p.Ping(t, to.v4, pings, 10*time.Second)
}

// Two pods, the second as on another node: there is no module there.
func articlePods(t *testing.T) (busybox1, busybox2 *pod) {
	t.Helper()
	n := newNode(t)
	busybox1, busybox2 = n.newPod(t), n.newPod(t)
	busybox2.set(t, "enabled", "0")
	return busybox1, busybox2
}

func expectGrown(t *testing.T, n *netns, before status, want []int, keys ...string) {
	t.Helper()
	got := n.grown(t, before, keys...)
	for i, key := range keys {
		if got[i] != want[i] {
			t.Errorf("%s grew by %d, expected %d", key, got[i], want[i])
		}
	}
}

// The experiment that the project begins with, in its own order.
func TestArticle(t *testing.T) {
	load(t, "default_enabled=2 protocols=icmp directions=in")
	busybox1, busybox2 := articlePods(t)
	busybox1.must(t, func() error {
		// Multicast reports come when they like, and count as seen.
		return writeFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
	})

	before := busybox1.status(t)
	if got := busybox2.ping(t, busybox1); got != 0 {
		t.Errorf("no program reads: %d of %d pings answered, expected none", got, pings)
	}
	expectGrown(t, busybox1.netns, before, []int{pings, pings, 0, 0},
		"seen", "queued", "bypassed", "exempt")

	stop := busybox1.newReader(t, 80).serve(nil)
	if got := busybox2.ping(t, busybox1); got != pings {
		t.Errorf("a reader in the pod's netns: %d of %d pings answered", got, pings)
	}
	if seen := stop(); seen != pings {
		t.Errorf("the reader saw %d packets, expected %d", seen, pings)
	}
}

func TestArticleBypass(t *testing.T) {
	load(t, "default_enabled=2 protocols=icmp directions=in")
	busybox1, busybox2 := articlePods(t)
	before := busybox1.status(t)
	out, err := exec.Command("/bin/sh", "-c",
		"echo 1 > /sys/module/nsqueue/parameters/queue_bypass").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := busybox2.ping(t, busybox1); got != pings {
		t.Errorf("bypass without a reader: %d of %d pings answered", got, pings)
	}
	expectGrown(t, busybox1.netns, before, []int{pings, pings}, "queued", "bypassed")
	if got := busybox1.status(t)["bypass"]; got != "1" {
		t.Errorf("bypass: %s, expected the effective one", got)
	}
	if got := busybox1.get(t, "bypass"); got != "0" {
		t.Errorf("the netns' own bypass is %s", got)
	}
}

func TestDefaultEnabled(t *testing.T) {
	for _, c := range []struct{ params, initial, pod string }{
		{"", "0", "0"},
		{"default_enabled=0", "0", "0"},
		{"default_enabled=1", "0", "1"},
		{"default_enabled=2", "1", "1"},
	} {
		t.Run(c.params, func(t *testing.T) {
			initial, old := openNetns(t, initialNetns), newNetns(t)
			load(t, "queue_bypass=1 "+c.params)
			for name, n := range map[string]*netns{"old": old, "new": newNetns(t)} {
				if got := n.status(t)["enabled"]; got != c.pod {
					t.Errorf("%s netns: enabled %s, expected %s", name, got, c.pod)
				}
			}
			if got := initial.status(t)["enabled"]; got != c.initial {
				t.Errorf("initial netns: enabled %s, expected %s", got, c.initial)
			}
		})
	}
}
