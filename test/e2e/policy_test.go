// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// silence is how long a ping is waited for that must not be answered.
const silence = 300 * time.Millisecond

// TestDaemonIsAway ends the daemon in both ways under both policies. Under
// Ignore the pods keep their network, under Fail no packet passes if the kernel
// can keep the hook; and the next daemon takes up the pods that it finds.
func TestDaemonIsAway(t *testing.T) {
	endings := map[string]func(*rig) error{
		"stop": func(r *rig) error { return r.Stop() },
		"kill": func(r *rig) error { return r.Kill() },
	}
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		for name, end := range endings {
			t.Run(string(policy)+"/"+name, func(t *testing.T) {
				r := startRig(t, policy)
				network := r.open(t, flannelList, "", policy)
				a, b := newPod(t, network, "a"), newPod(t, network, "b")
				pingAll(t, a, b.IPv4)
				status, err := r.Client.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}

				if err := end(r); err != nil {
					t.Fatal(err)
				}
				if policy == api.Fail && status.Hook.Persistent {
					checkCutOff(t, name, a, b)
				} else {
					pingAll(t, a, b.IPv4)
				}
				if policy == api.Fail && name == "stop" && !r.Log.Contains("armed") {
					t.Error("nsqueued does not say what becomes of pods under Fail")
				}

				r.start(t)
				if got := len(r.list(t)); got != 2 {
					t.Fatalf("the next daemon has %d attachments, want 2", got)
				}
				r.checkSeen(t, a, b)
				r.checkSeen(t, b, a)
				freed, err := a.NetNS.Canary("canary")
				if err != nil {
					t.Fatal(err)
				}
				remove(t, a)
				nstest.Eventually(t, patience, "the kernel frees the netns", freed)
			})
		}
	}
}

// checkCutOff looks at pods under Fail while there is no daemon.
func checkCutOff(t *testing.T, ending string, a, b *chain.Pod) {
	t.Helper()
	if got := a.NetNS.Ping(t, b.IPv4, 3, silence); got != 0 {
		t.Errorf("%d of 3 pings passed without a daemon (%s) under Fail", got, ending)
	}
}

// TestPodCannotRemoveTheHook plays a pod with CAP_NET_ADMIN that clears the
// rules of its netns in every way that iptables and nft know.
func TestPodCannotRemoveTheHook(t *testing.T) {
	r := startRig(t, api.Ignore)
	network := r.open(t, flannelList, "", api.Ignore)
	a, b := newPod(t, network, "a"), newPod(t, network, "b")
	attempts := [][]string{
		{"nft", "flush", "ruleset"},
		{"iptables", "-F"},
		{"iptables", "-t", "mangle", "-F"},
		{"ip6tables", "-F"},
	}
	for line := range strings.Lines(tables(t, a)) {
		table := strings.Fields(line)[1:]
		attempts = append(attempts,
			append([]string{"nft", "flush", "table"}, table...),
			append([]string{"nft", "delete", "table"}, table...))
	}
	for _, argv := range attempts {
		// Most of them are refused; what counts is that none has an effect.
		out, err := a.NetNS.Command(argv[0], argv[1:]...).CombinedOutput()
		t.Logf("%s: %v %s", strings.Join(argv, " "), err, out)
		r.checkSeen(t, a, b)
	}
	if err := r.Client.Check(t.Context(), a.Key()); err != nil {
		t.Error(err)
	}
}

// TestGarbageCollection removes what the runtime no longer knows, and nothing
// else.
func TestGarbageCollection(t *testing.T) {
	r := startRig(t, api.Ignore)
	network := r.open(t, bridgeList, "1.1.0", api.Ignore)
	a, b, gone := newPod(t, network, "a"), newPod(t, network, "b"), newPod(t, network, "gone")
	if err := network.Forget(gone); err != nil {
		t.Fatal(err)
	}
	if err := network.GC(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	attached := r.list(t)
	if len(attached) != 2 {
		t.Errorf("%d attachments after GC, want 2", len(attached))
	}
	for _, at := range attached {
		if at.Key == gone.Key() {
			t.Errorf("pod %s is still attached", gone.Name)
		}
	}
	if got := tables(t, gone); got != "" {
		t.Errorf("pod %s still has after GC: %s", gone.Name, got)
	}
	r.checkSeen(t, a, b)
}

// TestStatus follows the policy: an error would take the node out of service.
func TestStatus(t *testing.T) {
	for _, policy := range []api.Policy{api.Ignore, api.Fail} {
		r := startRig(t, policy)
		network := r.open(t, bridgeList, "1.1.0", policy)
		if err := network.Status(t.Context()); err != nil {
			t.Errorf("%s, daemon running: %v", policy, err)
		}
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
		err := network.Status(t.Context())
		if want := policy == api.Fail; (err != nil) != want {
			t.Errorf("%s, no daemon: %v, want an error: %t", policy, err, want)
		}
	}
}
