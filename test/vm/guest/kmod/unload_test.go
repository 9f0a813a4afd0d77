// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/bench/report"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// While a netns would drop what no program reads, the module cannot be unloaded:
// its packets would pass. Each way to allow that is enough.
func TestUnloadRefused(t *testing.T) {
	for name, allow := range map[string]func(*testing.T, *netns){
		"disarmed":  func(t *testing.T, n *netns) { n.set(t, "enabled", "0") },
		"bypass":    func(t *testing.T, n *netns) { n.set(t, "bypass", "1") },
		"parameter": func(t *testing.T, _ *netns) { nstest.Must(t, writeFile(parameters+"queue_bypass", "1")) },
		"removed":   func(t *testing.T, n *netns) { nstest.Must(t, n.Remove()) },
	} {
		t.Run(name, func(t *testing.T) {
			load(t, "")
			ns, err := nstest.Create("pinned")
			nstest.Must(t, err)
			n := &netns{ns}
			for range 2 { // be it armed for the first time or again
				n.set(t, "enabled", "0")
				n.set(t, "enabled", "1")
				expectPinned(t)
			}
			n.set(t, "bypass", "1")
			n.set(t, "bypass", "0")
			expectPinned(t)
			allow(t, n)
			nstest.Eventually(t, patience, "the module is unloaded", func() bool {
				return deleteModule() == nil
			})
			if name != "removed" {
				nstest.Must(t, n.Remove())
			}
		})
	}
}

func expectPinned(t *testing.T) {
	t.Helper()
	if err := deleteModule(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("unload while a netns is armed without bypass: %v", err)
	}
}

// Of many netns the last one lets go, and the parameter is for all of them.
func TestUnloadRefusedByMany(t *testing.T) {
	load(t, "queue_bypass=1")
	a, b := newNetns(t), newNetns(t)
	a.set(t, "enabled", "1")
	b.set(t, "enabled", "1")
	nstest.Must(t, writeFile(parameters+"queue_bypass", "0"))
	expectPinned(t)
	a.set(t, "enabled", "0")
	expectPinned(t)
	nstest.Must(t, writeFile(parameters+"queue_bypass", "1"))
	nstest.Must(t, writeFile(parameters+"queue_bypass", "0"))
	expectPinned(t)
	b.set(t, "bypass", "1")
	nstest.Must(t, deleteModule())
}

// A pod has a queue of its own behind all hooks of the module, and more packets
// come into it while these go.
func TestUnloadBesideOtherQueue(t *testing.T) {
	const rounds = 15
	unloadAtEnd(t)
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	p.Run(t, "nft", `add table ip own;
		add chain ip own out { type filter hook output priority 0; };
		add rule ip own out meta l4proto udp queue num 7`)
	r := p.newReader(t, 7) // holds all
	var stops []func()
	for range 4 {
		stops = append(stops, flood(p.listenUDP(t, p.v4), f.node))
	}
	r.expect(t, 1)
	for range rounds {
		nstest.Must(t, insmod(""))
		p.set(t, "directions", "in")
		p.set(t, "enabled", "1")
		// What waits goes, and the senders send again meanwhile.
		nstest.Must(t, rmmod())
		for err := error(nil); err == nil; {
			_, err = r.next(time.Millisecond)
		}
	}
	nstest.Must(t, r.Close()) // what waits is charged to the senders, who wait too
	for _, stop := range stops {
		stop()
	}
}

// netnsVariable is how many netns TestManyNetns makes, in several rounds; without it they
// are few, and made once.
const netnsVariable = "NSQUEUE_VM_NETNS"

// TestManyNetns prints how long it takes to remove many netns, and to unload the module from
// them, as parts of the removal without the module in the same round: the processor is
// emulated.
func TestManyNetns(t *testing.T) {
	rounds, count := 1, 15
	if text := os.Getenv(netnsVariable); text != "" {
		var err error
		count, err = strconv.Atoi(text)
		nstest.Must(t, err)
		rounds = 5
	}
	unloadAtEnd(t)
	var without, idle, armed, unload []float64
	for range rounds {
		without = append(without, removal(t, makeMany(t, count)))
		nstest.Must(t, insmod(""))
		idle = append(idle, removal(t, makeMany(t, count)))
		armed = append(armed, removal(t, makeArmed(t, count)))
		all := makeArmed(t, count)
		unload = append(unload, timed(func() { nstest.Must(t, rmmod()) }))
		removal(t, all)
	}
	base := report.SpreadOf(without)
	t.Logf("cost: %d netns, removal without the module: %.3f s at least", count, base.Min)
	for _, c := range []struct {
		name    string
		seconds []float64
	}{
		{"removal, not armed", idle},
		{"removal, armed", armed},
		{"module unloaded while armed", unload},
	} {
		t.Logf("cost: %-28s %s", c.name, report.Ratio(report.SpreadOf(c.seconds), base))
	}
}

func makeArmed(t *testing.T, count int) []*netns {
	t.Helper()
	all := makeMany(t, count)
	for _, n := range all {
		n.set(t, "enabled", "1")
	}
	return all
}

func makeMany(t *testing.T, count int) []*netns {
	t.Helper()
	var all []*netns
	for range count {
		ns, err := nstest.Create("many")
		nstest.Must(t, err)
		all = append(all, &netns{ns})
	}
	return all
}

// removal is how many seconds it takes until the netns are gone for the kernel too.
func removal(t *testing.T, all []*netns) float64 {
	t.Helper()
	var gone []func() bool
	for i, n := range all {
		freed, err := n.Canary(fmt.Sprintf("canary%d", i))
		nstest.Must(t, err)
		gone = append(gone, freed)
	}
	return timed(func() {
		for _, n := range all {
			nstest.Must(t, n.Remove())
		}
		for _, freed := range gone {
			nstest.Eventually(t, patience, "a netns is gone", freed)
		}
	})
}

func timed(f func()) (seconds float64) {
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}
