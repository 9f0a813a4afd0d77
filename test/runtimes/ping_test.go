// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"testing"

	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// newPod runs a pod with the tool's servers, which is removed after the test.
func (n *node) newPod(t *testing.T, s cri.Spec) *cri.Pod {
	t.Helper()
	if s.Namespace == "" {
		s.Namespace = "default"
	}
	s.Image, s.Command, s.Cgroup = podImage, []string{"/bin/podtool", "serve"}, cgroupParent
	p, err := n.client.Run(t.Context(), s, 0)
	must(t, err)
	t.Cleanup(func() {
		if err := p.Remove(lasting(t)); err != nil {
			t.Error(err)
		}
	})
	return p
}

func exec(t *testing.T, p *cri.Pod, argv ...string) string {
	t.Helper()
	out, err := p.Exec(t.Context(), argv...)
	must(t, err)
	return out
}

func testPingAcrossNodes(t *testing.T, c *rig) {
	a := c.nodes[0].newPod(t, cri.Spec{Name: "busybox1"})
	b := c.nodes[1].newPod(t, cri.Spec{Name: "busybox2"})
	t.Log(exec(t, a, "ping", "-c", "3", "-i", "0.2", b.IPs[0]))
}
