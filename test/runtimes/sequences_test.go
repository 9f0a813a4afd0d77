// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// Container IDs of simulated runtimes begin so.
const (
	crioPrefix    = "crio-"
	nerdctlPrefix = "nerdctl-"
)

// call is how a runtime that is not here would call the plugin.
type call struct {
	command, id, netns, args, dir string
	// config is put into the network configuration.
	config map[string]any
	fails  bool
}

// make calls the plugin on the node and returns what it wrote.
func (n *node) make(t *testing.T, c call) string {
	t.Helper()
	config := map[string]any{
		"cniVersion": "1.1.0", "name": "cbr0", "type": "nsqueue", "failurePolicy": "Fail",
	}
	maps.Copy(config, c.config)
	stdin, err := json.Marshal(config)
	nstest.Must(t, err)
	argv := []string{
		"-C", c.dir, "CNI_COMMAND=" + c.command, "CNI_PATH=/opt/cni/bin", "CNI_CONTAINERID=" + c.id,
		"CNI_NETNS=" + c.netns, "CNI_IFNAME=eth0", "CNI_ARGS=" + c.args, "/opt/cni/bin/nsqueue",
	}
	cmd := n.Command("env", argv...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if _, ended := errors.AsType[*osexec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	if (err != nil) != c.fails {
		t.Fatalf("%s of %s: %v\n%s", c.command, c.id, err, out)
	}
	return string(out)
}

// result is what the plugins before ours have answered.
func result(netns string) map[string]any {
	return map[string]any{
		"cniVersion": "1.1.0",
		"interfaces": []entry{{"name": "eth0", "sandbox": netns}},
		"ips":        []entry{{"interface": 0, "address": "10.244.9.9/24"}},
	}
}

// netnsAt makes a netns at the path.
func (n *node) netnsAt(t *testing.T, path string) {
	t.Helper()
	_, err := n.Run("sh", "-c", fmt.Sprintf(
		"mkdir -p $(dirname %[1]s) && touch %[1]s && unshare --net=%[1]s ip link set lo up", path))
	nstest.Must(t, err)
	t.Cleanup(func() {
		if _, err := n.Run("sh", "-c", fmt.Sprintf("umount %[1]s && rm %[1]s", path)); err != nil {
			t.Error(err)
		}
	})
}

// testCRIO plays CRI-O 1.33: CHECK at once after ADD, and when it starts
// VERSION, CHECK of each pod that it has, STATUS, and GC.
func testCRIO(t *testing.T, c *rig) {
	n := c.nodes[0]
	const dir = "/run/crio/ns/netns/"
	kept := call{id: crioPrefix + "kept", netns: dir + "0a6b2a1e-0000-4000-8000-000000000001"}
	lost := call{id: crioPrefix + "lost", netns: dir + "0a6b2a1e-0000-4000-8000-000000000002"}
	with := func(c call, command string) call {
		c.command, c.dir, c.args = command, "/", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+c.id
		c.config = map[string]any{"prevResult": result(c.netns)}
		return c
	}
	for _, p := range []call{kept, lost} {
		n.netnsAt(t, p.netns)
		if out := n.make(t, with(p, "ADD")); !strings.Contains(out, "10.244.9.9/24") {
			t.Errorf("ADD does not hand on the result: %s", out)
		}
		n.make(t, with(p, "CHECK"))
	}
	// CRI-O starts again, and one of the pods is gone.
	if out := n.make(t, call{command: "VERSION", dir: "/"}); !strings.Contains(out, `"1.1.0"`) {
		t.Errorf("VERSION: %s", out)
	}
	n.make(t, with(kept, "CHECK"))
	n.make(t, call{command: "STATUS", dir: "/"})
	valid := []entry{{"containerID": kept.id, "ifname": "eth0"}}
	n.make(t, call{command: "GC", dir: "/", config: map[string]any{
		"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid,
	}})
	attached := n.attachments(t)
	if _, ok := attached[kept.id]; !ok || len(attached) != 1 {
		t.Errorf("after GC are attached: %v", attached)
	}
	n.make(t, with(lost, "CHECK").failing())
	n.make(t, with(kept, "DEL"))
	n.make(t, with(lost, "DEL"))
}

func (c call) failing() call {
	c.fails = true
	return c
}

// testNerdctl plays nerdctl 2.3.5, which calls from runc's hooks: DEL before ADD,
// the netns by a process, the bundle as directory, and no arguments at the end.
func testNerdctl(t *testing.T, c *rig) {
	n := c.nodes[1]
	const bundle = "/run/bundle"
	_, err := n.Run("mkdir", "-p", bundle)
	nstest.Must(t, err)
	container, err := n.Launch(nil, "unshare", "--net", "sleep", "600")
	nstest.Must(t, err)
	defer func() {
		if err := container.Stop(); err != nil {
			t.Error(err)
		}
	}()
	nstest.Must(t, n.await("the container's netns", func() bool {
		return n.otherNetns(container.PID())
	}))
	p := call{
		id: nerdctlPrefix + "web", dir: bundle, args: "IgnoreUnknown=1",
		netns:  fmt.Sprintf("/proc/%d/ns/net", container.PID()),
		config: map[string]any{"cniVersion": "1.0.0"},
	}
	p.command = "DEL"
	n.make(t, p)
	p.command, p.config["prevResult"] = "ADD", result(p.netns)
	n.make(t, p)
	a, ok := n.attachments(t)[p.id]
	if !ok || a.State != api.Active {
		t.Errorf("not attached: %+v", a)
	}
	p.command, p.args = "DEL", ""
	n.make(t, p)
	if left := n.attachments(t); len(left) != 0 {
		t.Errorf("after DEL are attached: %v", left)
	}
}
