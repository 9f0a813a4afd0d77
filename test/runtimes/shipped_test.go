// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
	"github.com/nsqueue/nsqueue/test/runtimes/manifest"
)

// testImage has each program that reads images read that of nsqueue.
func testImage(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		out, err := n.Run("ctr", "-n", "k8s.io", "images", "ls", "name=="+c.image)
		nstest.Must(t, err)
		if !strings.Contains(out, "linux/amd64,linux/arm64") {
			t.Errorf("containerd %s has %s as\n%s", n.version, c.image, out)
		}
	}
	n := c.nodes[0]
	_, err := n.Run("podman", "load", "-i", nodeArchive(c.archive))
	nstest.Must(t, err)
	out, err := n.Run("podman", "run", "--rm", "--network", "none", "--read-only",
		"--security-opt", "apparmor=unconfined", "--cgroup-parent", cgroupParent, "--cgroupns", "host",
		c.image, "--version")
	nstest.Must(t, err)
	_, version, _ := strings.Cut(c.image, ":")
	if !strings.Contains(out, "nsqueued "+version+"\n") {
		t.Errorf("in podman: %q", out)
	}
}

// refusal is a rule by which the shipped daemon refuses what the pods serve at port 80.
const refusal = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: no-web}
spec:
  rules:
  - name: web
    when: flow.protocol == "tcp" && server.port == 80
    action: reject
`

// testShipped takes all of nsqueue from the nodes, and runs the pod that is shipped
// instead: it brings the plugin and its entry, and inspects pods from then on.
func testShipped(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		t.Run(n.version, func(t *testing.T) {
			t.Parallel()
			n.strip(t)
			p := c.loadPod(t)
			for _, of := range []*manifest.Container{&p.Spec.InitContainers[0], &p.Spec.Containers[0]} {
				of.Args = append(of.Args, "--rules=/run/nsqueue/rules")
			}
			d := n.run(t, p)
			defer d.remove(t)
			d.tryShipped(t)
		})
	}
}

// strip removes nsqueue from a node, and leaves rules for another one.
func (n *node) strip(t *testing.T) {
	t.Helper()
	nstest.Must(t, n.nsqueued.Stop())
	n.nsqueued = nil
	const list = "/10-flannel.conflist"
	text, err := os.ReadFile(n.File(netDir(stock) + list))
	nstest.Must(t, err)
	nstest.Must(t, n.Write(netDir(recorded)+list, string(text)))
	nstest.Must(t, os.Remove(n.File("/opt/cni/bin/nsqueue")))
	nstest.Must(t, n.Write("/run/nsqueue/rules/no-web.yaml", refusal))
}

// tryShipped waits until pods are inspected from their start, and has two talk.
func (d *contained) tryShipped(t *testing.T) {
	t.Helper()
	nstest.Eventually(t, patience, "a pod is attached by its ADD", func() bool {
		return d.attachesByItself(t)
	})
	server := d.newPod(t, cri.Spec{Name: "server"})
	client := d.newPod(t, cri.Spec{Name: "client"})
	d.inspects(t, client, server)
	d.rejects(t, client, server)
	d.asks(t, 2)
	remove(t, client)
	remove(t, server)
}

// attachesByItself makes a pod, and reports whether its ADD attached it.
func (d *contained) attachesByItself(t *testing.T) bool {
	t.Helper()
	p := d.newPod(t, cri.Spec{Name: "early"})
	defer remove(t, p)
	l, err := d.daemon.List(t.Context())
	nstest.Must(t, err)
	return slices.ContainsFunc(l.Attachments, func(a api.Attachment) bool {
		return a.ContainerID == p.ID && a.Origin == api.OriginCNI
	})
}

// rejects wants a client to be told at once that its connection is refused, which the
// server would have taken.
func (d *contained) rejects(t *testing.T, client, server *cri.Pod) {
	t.Helper()
	out, err := client.Exec(t.Context(), "wget", "-q", "-O", "-", "http://"+server.IPs[0]+"/")
	if err == nil || !strings.Contains(out, "Connection refused") {
		t.Errorf("containerd %s: port 80 answers %q, %v", d.version, out, err)
	}
}

// asks runs nsqueuectl in the container, as an operator does.
func (d *contained) asks(t *testing.T, pods int) {
	t.Helper()
	var l api.AttachmentList
	var s api.Status
	nstest.Must(t, json.Unmarshal([]byte(d.task(t, "list", "-o", "json")), &l))
	nstest.Must(t, json.Unmarshal([]byte(d.task(t, "status", "-o", "json")), &s))
	if len(l.Attachments) != pods || s.Attachments != pods || s.Doubts != nil ||
		s.Supervisor.Kind != api.Supervise {
		t.Errorf("containerd %s: list %+v, status %+v", d.version, l, s)
	}
	if out := d.task(t, "doctor"); !strings.Contains(out, "queues and hooks of 2 attachments are in place") {
		t.Errorf("containerd %s: doctor says\n%s", d.version, out)
	}
}

// task runs nsqueuectl in the container as containerd's own command does, and returns
// what it prints. That command warns on the other stream.
func (d *contained) task(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.Command("ctr", append([]string{
		"-n", "k8s.io", "tasks", "exec", "--exec-id", "test-" + args[0], d.pod.Container, nsqueuectl,
	}, args...)...).Output()
	if err != nil {
		t.Errorf("containerd %s: %s: %v\n%s", d.version, args[0], err, out)
	}
	return string(out)
}

// nodeArchive is where a node has an archive of images.
func nodeArchive(path string) string { return filepath.Join("/tmp", filepath.Base(path)) }
