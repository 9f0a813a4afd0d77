// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// All netns together have a bound of settled flows, which can be changed.
func TestSettleTotal(t *testing.T) {
	load(t, "settle_total=2")
	n := newNode(t)
	pods := []*pod{n.newPod(t), n.newPod(t)}
	var readers []*reader
	for _, p := range pods {
		r := p.newReader(t, 80)
		r.request.Store(requestAccept)
		readers = append(readers, r)
		p.set(t, "protocols", "udp")
		p.set(t, "directions", "in")
		p.set(t, "generation", "1")
		p.set(t, "enabled", "1")
	}
	settle := func(i int) {
		t.Helper()
		f := newFlow(t, n, pods[i], false)
		f.in(t, []byte("x"))
		nstest.Must(t, readers[i].accept(readers[i].expect(t, 1)[0]))
		if received(t, f.pod, 1) != 1 {
			t.Error("the packet was not delivered")
		}
	}
	expect := func(want ...string) {
		t.Helper()
		for i, p := range pods {
			if got := p.status(t)["flows"]; got != want[i] {
				t.Errorf("pod %d has %s settled flows, expected %s", i, got, want[i])
			}
		}
	}
	settle(0)
	settle(1)
	settle(0)
	settle(1)
	expect("1", "1")
	nstest.Must(t, writeFile(parameters+"settle_total", "3"))
	settle(0)
	settle(0)
	expect("2", "1")
	pods[0].set(t, "generation", "1") // its flows make room
	settle(1)
	settle(1)
	settle(1)
	expect("0", "3")
	nstest.Must(t, writeFile(parameters+"settle_total", "0"))
	pods[1].set(t, "generation", "1")
	settle(1)
	expect("0", "0")
}

// What the module has in each netns is charged to the cgroup that creates it: a
// user may create as many as that one's memory allows.
func TestCharged(t *testing.T) {
	const count = 30
	base := chargedPerCPU(t, "without", count, 0)
	load(t, "")
	// A counter for each of four outcomes, on each possible processor.
	chargedPerCPU(t, "with", count, base+int64(count*4*8*runtime.NumCPU()))
}

// chargedPerCPU makes netns in a cgroup of its own, and waits until they have added that
// much to what it has on all processors. It returns what they have added.
func chargedPerCPU(t *testing.T, name string, count int, least int64) (charged int64) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	nstest.Must(t, writeFile(root+"/cgroup.subtree_control", "+memory"))
	group := filepath.Join(root, name)
	nstest.Must(t, os.Mkdir(group, 0o755))
	self := []byte(fmt.Sprint(os.Getpid()))
	nstest.Must(t, os.WriteFile(group+"/cgroup.procs", self, 0))
	defer func() { nstest.Must(t, os.WriteFile(root+"/cgroup.procs", self, 0)) }()
	before := memoryStat(t, group, "percpu")
	all := makeMany(t, count)
	nstest.Eventually(t, patience, "the netns are charged", func() bool {
		charged = memoryStat(t, group, "percpu") - before
		return charged >= least
	})
	for _, n := range all {
		nstest.Must(t, n.Remove())
	}
	t.Logf("%s: %d netns have %d bytes on the processors", name, count, charged)
	return charged
}

func memoryStat(t *testing.T, group, key string) (value int64) {
	t.Helper()
	text, err := os.ReadFile(group + "/memory.stat")
	nstest.Must(t, err)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if rest, found := strings.CutPrefix(lines.Text(), key+" "); found {
			_, err := fmt.Sscan(rest, &value)
			nstest.Must(t, err)
			return value
		}
	}
	t.Fatalf("no %s in memory.stat", key)
	return 0
}
