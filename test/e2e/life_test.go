// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// TestLife is a pod's whole life, in each version of the specification that
// the real chains speak.
func TestLife(t *testing.T) {
	for _, tt := range []struct{ list, version string }{
		{flannelList, "0.3.1"},
		{flannelList, "0.4.0"},
		{bridgeList, "1.0.0"},
		{bridgeList, "1.1.0"},
	} {
		t.Run(strings.TrimSuffix(tt.list, ".conflist")+"/"+tt.version, func(t *testing.T) {
			r := startRig(t, api.Ignore)
			network := r.open(t, tt.list, tt.version, api.Ignore)
			// The daemon makes some things at the first attachment and keeps them.
			remove(t, newPod(t, network, "warmup"))
			before := r.usage(t)

			a, b := newPod(t, network, "a"), newPod(t, network, "b")
			exchange(t, a, b)
			checkCounters(t, r, a, b)
			checkListed(t, r, network, a, b)
			checkCommand(t, r, a)
			if network.AtLeast("0.4.0") {
				for _, p := range []*chain.Pod{a, b} {
					if err := p.Check(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			deleteAndLookAround(t, r, a, b)
			checkNothingHeld(t, r, before)
		})
	}
}

// checkCounters compares with what exchange did at least: three pings, a UDP
// and a TCP exchange each way, each packet seen once in either pod.
func checkCounters(t *testing.T, r *rig, pods ...*chain.Pod) {
	t.Helper()
	for _, p := range pods {
		least := uint64(2 * len(addresses(p)) * (3*2 + 2 + 5))
		nstest.Eventually(t, patience, "counters of "+p.Name, func() bool {
			c := r.counters(t, p)
			return c.Packets >= least && c.Accepted == c.Packets
		})
		c := r.counters(t, p)
		if c.Dropped+c.Malformed+c.Panics+c.Errors != 0 {
			t.Errorf("counters of %s: %+v", p.Name, c)
		}
	}
}

func checkListed(t *testing.T, r *rig, n *chain.Network, pods ...*chain.Pod) {
	t.Helper()
	attached := r.list(t)
	if len(attached) != len(pods) {
		t.Errorf("%d attachments, want %d", len(attached), len(pods))
	}
	for _, p := range pods {
		i := slices.IndexFunc(attached, func(a api.Attachment) bool { return a.Key == p.Key() })
		if i < 0 {
			t.Errorf("pod %s is not listed", p.Name)
			continue
		}
		got := attached[i]
		want := api.Attachment{
			Key: p.Key(), Network: n.Name(), Origin: api.OriginCNI, State: api.Active,
			Pod:           api.Pod{Namespace: "default", Name: p.Name, UID: "uid-of-" + p.Name},
			FailurePolicy: api.Ignore,
			Netns:         got.Netns, Hook: got.Hook, Queues: got.Queues,
			Counters: got.Counters, Created: got.Created, Reader: &api.Reader{Kind: "daemon"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pod %s (-want +got):\n%s", p.Name, diff)
		}
		if got.Netns.Cookie == 0 || got.Hook == "" || len(got.Queues) == 0 {
			t.Errorf("pod %s: incomplete: %+v", p.Name, got)
		}
	}
}

// checkCommand looks at the pod through the operator's command.
func checkCommand(t *testing.T, r *rig, p *chain.Pod) {
	t.Helper()
	ctl := filepath.Join(binDir(t), "nsqueuectl")
	out, err := exec.Command(ctl, "--socket", r.Socket(), "list", "-o", "json").CombinedOutput()
	if err != nil {
		t.Fatalf("nsqueuectl list: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), p.ID) {
		t.Errorf("nsqueuectl list -o json lacks %s:\n%s", p.ID, out)
	}
}

// deleteAndLookAround deletes the pods and expects their netns to be as if
// nsqueue had never been there, and then to be freed.
func deleteAndLookAround(t *testing.T, r *rig, pods ...*chain.Pod) {
	t.Helper()
	for _, p := range pods {
		freed, err := p.NetNS.Canary("canary")
		if err != nil {
			t.Fatal(err)
		}
		if tables(t, p) == "" && r.list(t)[0].Hook == "nft" {
			t.Errorf("pod %s has no nft table while it is attached", p.Name)
		}
		if err := p.Del(t.Context()); err != nil {
			t.Error(err)
		}
		if got := tables(t, p); got != "" {
			t.Errorf("pod %s still has after DEL: %s", p.Name, got)
		}
		// DEL is repeated by runtimes.
		remove(t, p)
		nstest.Eventually(t, patience, "the kernel frees the netns of "+p.Name, freed)
	}
	if left := r.list(t); len(left) != 0 {
		t.Errorf("attachments after DEL: %v", left)
	}
	if left := r.stateFiles(t); len(left) != 0 {
		t.Errorf("state files after DEL: %v", left)
	}
}

// tables lists the nft tables in a pod's netns.
func tables(t *testing.T, p *chain.Pod) string {
	t.Helper()
	return strings.TrimSpace(p.NetNS.Run(t, "nft", "list", "tables"))
}

// checkNothingHeld expects the daemon to hold what it held before.
func checkNothingHeld(t *testing.T, r *rig, before chain.Usage) {
	t.Helper()
	// An API call may still be closing its connection, at either time.
	var after chain.Usage
	quiet := nstest.Poll(patience, func() bool {
		after = r.usage(t)
		return len(after.HeldSince(before)) == 0
	})
	if !quiet {
		t.Errorf("nsqueued still holds %v", after.HeldSince(before))
	}
	// The Go runtime starts a thread when all others are in system calls, and
	// keeps it; a thread parked in each pod would show as one for each.
	if after.Threads > before.Threads+2 {
		t.Errorf("threads of nsqueued: %d before, %d after", before.Threads, after.Threads)
	}
}

// TestNoPacketIsLost sends from the moment ADD returns and looks for every
// single datagram, both at its receiver and in the daemon's counters.
func TestNoPacketIsLost(t *testing.T) {
	const rounds, datagrams = 50, 100
	r := startRig(t, api.Fail)
	network := r.open(t, flannelList, "", api.Fail)
	peer := newPod(t, network, "peer")
	sink := peer.NetNS.ListenUDP(t, address(peer.IPv4), nstest.ReceiveBuffer(4<<20))
	for round := range rounds {
		p := newPod(t, network, "sender")
		conn := p.NetNS.DialUDP(t, address(peer.IPv4))
		sendNumbered(t, conn, datagrams)
		if missing := missingNumbers(t, sink, datagrams); len(missing) > 0 {
			t.Errorf("round %d: %d datagrams lost: %v", round, len(missing), missing)
		}
		nstest.Poll(patience, func() bool { return r.counters(t, p).Packets >= datagrams })
		if got := r.counters(t, p).Packets; got != datagrams {
			t.Errorf("round %d: %d packets counted, want %d", round, got, datagrams)
		}
		_ = conn.Close()
		remove(t, p)
	}
}

// TestCyclesLeaveNothing attaches and detaches often and expects the daemon not
// to grow.
func TestCyclesLeaveNothing(t *testing.T) {
	// Go's heap has found its size after about 150 cycles.
	const warmup, cycles, allowedKiB = 200, 100, 2 << 10
	r := startRig(t, api.Ignore)
	run := func(n int) chain.Usage {
		t.Helper()
		for i := range n {
			t.Run("cycle", func(t *testing.T) { r.cycle(t, fmt.Sprintf("cycle-%d", i)) })
		}
		return r.usage(t)
	}
	before := run(warmup)
	after := run(cycles)
	t.Logf("after %d cycles: %d threads, %d KiB; after %d more: %d threads, %d KiB",
		warmup, before.Threads, before.ResidentKiB, cycles, after.Threads, after.ResidentKiB)
	checkNothingHeld(t, r, before)
	if grown := after.ResidentKiB - before.ResidentKiB; grown > allowedKiB {
		t.Errorf("memory of nsqueued grew by %d KiB in %d cycles", grown, cycles)
	}
}

// cycle attaches a netns, has packets inspected, and detaches it.
func (r *rig) cycle(t *testing.T, id string) {
	t.Helper()
	pod, peer := nstest.Pair(t)
	req := api.AttachRequest{
		Key: api.Key{ContainerID: id, Ifname: "eth0"}, Origin: api.OriginManual,
	}
	if _, err := r.Client.Attach(t.Context(), req, pod.File(t)); err != nil {
		t.Fatal(err)
	}
	if got := pod.Ping(t, peer.IPv4(), 3, patience); got != 3 {
		t.Errorf("%d of 3 pings answered", got)
	}
	if err := r.Client.Detach(t.Context(), req.Key); err != nil {
		t.Error(err)
	}
}
