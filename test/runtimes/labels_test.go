// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// labeledDir has the sockets and the state of the nsqueued whose rules ask for labels.
const labeledDir = "/run/labeled"

const guestRules = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: guests}
spec:
  pods: {when: 'pod.labels["team"] == "guests"'}
  default: reject
`

// labeledDaemon is a nsqueued with such rules.
type labeledDaemon struct {
	*cluster.Process

	node   *node
	client *api.Client
}

func (n *node) startLabeled(t *testing.T) *labeledDaemon {
	t.Helper()
	nstest.Must(t, n.Write("/etc/labeled/rules.yaml", guestRules))
	d := &labeledDaemon{node: n, client: api.NewClient(n.File(labeledDir + "/nsqueued.sock"))}
	d.start(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Log.String())
		}
		nstest.Must(t, d.Stop())
	})
	return d
}

func (d *labeledDaemon) start(t *testing.T) {
	t.Helper()
	var err error
	d.Process, err = d.node.Launch(nil, "/usr/local/sbin/nsqueued", "--rules", "/etc/labeled",
		"--socket", labeledDir+"/nsqueued.sock", "--state-dir", labeledDir, "--log-level", "debug")
	nstest.Must(t, err)
	nstest.Eventually(t, patience, "nsqueued with rules answers", func() bool {
		_, err := d.client.Status(lasting(t))
		return err == nil
	})
}

func (d *labeledDaemon) awaitLabels(t *testing.T, connected bool) {
	t.Helper()
	nstest.Eventually(t, patience, "the state of the connection to the runtime", func() bool {
		s, err := d.client.Status(lasting(t))
		nstest.Must(t, err)
		return s.Labels != nil && s.Labels.Connected == connected
	})
}

// newPod runs a pod whose container says hello to another pod before all else.
func (d *labeledDaemon) newPod(t *testing.T, name, team, to string) *cri.Pod {
	t.Helper()
	s := spec(cri.Spec{Name: name, Handler: labeled, Labels: map[string]string{"team": team}})
	s.Command = []string{"sh", "-c", "timeout 20 wget -q -O - http://" + to +
		"/ >/tmp/said 2>&1; touch /tmp/done; exec sleep 100000"}
	p, err := d.node.client.Run(t.Context(), s, 0)
	nstest.Must(t, err)
	t.Cleanup(func() { remove(t, p) })
	nstest.Eventually(t, patience, name+" has tried", func() bool {
		_, err := p.Exec(t.Context(), "cat", "/tmp/done")
		return err == nil
	})
	return p
}

func (d *labeledDaemon) attachment(t *testing.T, p *cri.Pod) api.Attachment {
	t.Helper()
	l, err := d.client.List(lasting(t))
	nstest.Must(t, err)
	for _, a := range l.Attachments {
		if a.ContainerID == p.ID {
			return a
		}
	}
	t.Fatalf("pod %s is not attached", p.Name)
	return api.Attachment{}
}

// checkRefused wants all packets of a pod to be refused, from its first.
func (d *labeledDaemon) checkRefused(t *testing.T, p *cri.Pod) {
	t.Helper()
	a := d.attachment(t, p)
	if out, _ := p.Exec(t.Context(), "cat", "/tmp/said"); strings.Contains(out, "hello") ||
		a.Counters.Accepted > 0 || a.Counters.Rejected == 0 || a.Labels["team"] != p.Labels["team"] {
		t.Errorf("the guest has heard %q; %+v", out, a)
	}
}

// testLabels has pods judged by their labels, which containerd 2 tells by NRI.
func testLabels(t *testing.T, c *rig) {
	n := c.nodes[1]
	server := n.newPod(t, cri.Spec{Name: "labels-server"})
	d := n.startLabeled(t)
	d.awaitLabels(t, true)
	host := d.newPod(t, "host", "hosts", server.IPs[0])
	if out := exec(t, host, "cat", "/tmp/said"); out != "hello from labels-server\n" {
		t.Errorf("the host has heard %q", out)
	}
	d.checkRefused(t, d.newPod(t, "guest", "guests", server.IPs[0]))
	d.hang(t)
	nstest.Must(t, d.Stop())
	d.start(t)
	d.awaitLabels(t, true)
	d.checkRefused(t, d.newPod(t, "next", "guests", server.IPs[0]))
}

// hang stops nsqueued while a pod of others starts, which does not wait for it for long.
// The runtime ends the connection, and nsqueued makes it again.
func (d *labeledDaemon) hang(t *testing.T) {
	t.Helper()
	s := spec(cri.Spec{Name: "hung", Labels: map[string]string{"team": "guests"}})
	s.Command = nil
	nstest.Must(t, d.Signal(unix.SIGSTOP))
	p, err := d.node.client.Run(t.Context(), s, 0) // by the other nsqueued
	nstest.Must(t, d.Signal(unix.SIGCONT))
	nstest.Must(t, err)
	remove(t, p)
	d.awaitLabels(t, true)
}
