// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// testPingAcrossNodes is the source article's experiment with nsqueue: a pod
// of one node pings one of the other, and both nodes' watches see it.
func testPingAcrossNodes(t *testing.T, c *rig) {
	a := c.nodes[0].newPod(t, cri.Spec{Name: "busybox1"})
	b := c.nodes[1].newPod(t, cri.Spec{Name: "busybox2"})
	var watches []*cluster.Process
	for _, n := range c.nodes {
		w, err := n.Launch(nil, filepath.Join(c.bin, "nsqueuectl"), "watch")
		nstest.Must(t, err)
		watches = append(watches, w)
	}
	nstest.Eventually(t, patience, "both watches report the ping", func() bool {
		exec(t, a, "ping", "-c", "1", "-w", "60", b.IPs[0])
		return sees(watches[0], a, "out") && sees(watches[0], a, "in") &&
			sees(watches[1], b, "out") && sees(watches[1], b, "in")
	})
	for i, w := range watches {
		nstest.Must(t, w.Stop())
		lines := strings.SplitN(w.Log.String(), "\n", 5)
		t.Logf("@@ watch on %s:\n%s", c.nodes[i].Name, strings.Join(lines[:min(len(lines), 4)], "\n"))
	}

	before := c.nodes[0].attachment(t, a).Counters.Packets
	out := exec(t, a, "ping", "-c", "5", "-i", "0.2", "-w", "60", b.IPs[0])
	if !strings.Contains(out, "5 packets received, 0% packet loss") {
		t.Errorf("ping:\n%s", out)
	}
	if got := c.nodes[0].attachment(t, a).Counters.Packets - before; got != 10 {
		t.Errorf("%d packets of 5 pings were inspected, want 10", got)
	}
	c.nodes[0].checkInspected(t, a)
	c.nodes[1].checkInspected(t, b)
}

// sees reports whether a watch has printed a packet of the pod's ping.
func sees(watch *cluster.Process, p *cri.Pod, direction string) bool {
	for line := range strings.Lines(watch.Log.String()) {
		if strings.HasPrefix(line, "packet: ") && strings.Contains(line, "icmp") &&
			strings.Contains(line, p.Namespace+"/"+p.Name) &&
			strings.Contains(line, fmt.Sprintf(", %s, ", direction)) &&
			strings.Contains(line, p.IPs[0]) {
			return true
		}
	}
	return false
}

// testTraffic exchanges what pods usually do, on a node and across.
func testTraffic(t *testing.T, c *rig) {
	for i, n := range c.nodes {
		a, b := n.newPod(t, cri.Spec{Name: "a"}), n.newPod(t, cri.Spec{Name: "b"})
		other := c.nodes[1-i].newPod(t, cri.Spec{Name: "other"})
		talk(t, a, b)
		talk(t, a, other)
		talk(t, other, a)
		n.checkInspected(t, a)
		n.checkInspected(t, b)
		c.nodes[1-i].checkInspected(t, other)
	}
}

// testDualStack joins the nodes' bridges by routes; flannel has one address
// family here.
func testDualStack(t *testing.T, c *rig) {
	for i, n := range c.nodes {
		other := c.nodes[1-i]
		for _, route := range [][2]string{
			{fmt.Sprintf("10.245.%d.0/24", other.number), other.IPv4.Addr().String()},
			{fmt.Sprintf("fd45:%d::/64", other.number), other.IPv6.Addr().String()},
		} {
			_, err := n.Run("ip", "route", "replace", route[0], "via", route[1])
			nstest.Must(t, err)
		}
	}
	a := c.nodes[0].newPod(t, cri.Spec{Name: "dual1", Handler: dual})
	b := c.nodes[1].newPod(t, cri.Spec{Name: "dual2", Handler: dual})
	for _, p := range []*cri.Pod{a, b} {
		if len(p.IPs) != 2 {
			t.Fatalf("%s has addresses %v, want two", p.Name, p.IPs)
		}
	}
	talk(t, a, b)
	talk(t, b, a)
	c.nodes[0].checkInspected(t, a)
	c.nodes[1].checkInspected(t, b)
}
