// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// podmanConfig has podman use CNI, and our control groups.
const podmanConfig = `[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d/"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`

// testPodman runs a container of podman in the same network as the pods.
func testPodman(t *testing.T, c *rig) {
	n := c.nodes[0]
	nstest.Must(t, n.Write("/etc/containers/containers.conf", podmanConfig))
	_, err := n.Run("podman", "load", "-i", "/tmp/image.tar")
	nstest.Must(t, err)
	out, err := n.Run("podman", "run", "-d", "--name", "web", "--hostname", "web", "--network", "cbr0",
		"--security-opt", "apparmor=unconfined", "--cgroup-parent", cgroupParent, "--cgroupns", "host",
		podImage, "podtool", "serve")
	nstest.Must(t, err)
	defer func() {
		if _, err := n.Run("podman", "rm", "-f", "-t", "0", "web"); err != nil {
			t.Error(err)
		}
		if left := n.attachments(t); len(left) > 1 {
			t.Errorf("after rm are attached: %v", left)
		}
	}()
	lines := strings.Fields(out)
	id := lines[len(lines)-1]
	a, ok := n.attachments(t)[id]
	if !ok || a.Pod.Name != "web" || a.Network != "cbr0" {
		t.Errorf("attachment of podman's container %s: %+v", id, a)
	}
	ip, err := n.Run("podman", "inspect", "--format",
		"{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web")
	nstest.Must(t, err)
	other := c.nodes[1].newPod(t, cri.Spec{Name: "other"})
	talk(t, other, &cri.Pod{Spec: cri.Spec{Name: "web"}, IPs: []string{strings.TrimSpace(ip)}})
	if got := n.attachments(t)[id].Counters.Packets; got == 0 {
		t.Error("nothing of it was inspected")
	}
}

// otherNetns reports whether the process has left the node's netns.
func (n *node) otherNetns(pid int) bool {
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false
	}
	node, err := os.Readlink(n.NetNS())
	return err == nil && its != node
}
