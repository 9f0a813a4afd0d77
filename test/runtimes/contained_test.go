// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
	"github.com/nsqueue/nsqueue/test/runtimes/manifest"
)

// shippedPod is nsqueue in a container, as the project ships it.
const shippedPod = "../../deploy/image/pod.yaml"

// nsqueuectl is where the image has it.
const nsqueuectl = "/usr/local/bin/nsqueuectl"

// contained is a nsqueued in a container, beside the node's own.
type contained struct {
	*node

	pod    *cri.Pod
	daemon *api.Client
}

// loadPod reads the pod that is shipped, with the image of this build. What the
// machine does not allow even this process is taken from it.
func (c *rig) loadPod(t *testing.T) *manifest.Pod {
	t.Helper()
	p, err := manifest.Load(shippedPod)
	nstest.Must(t, err)
	p.Each(func(of *manifest.Container) { of.Image = c.image })
	if missing(t, unix.CAP_SYS_RESOURCE) {
		p.Deny("SYS_RESOURCE")
	}
	return p
}

// missing reports that even this process has no right to a capability.
func missing(t *testing.T, capability int) bool {
	t.Helper()
	set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
	nstest.Must(t, err)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	nstest.Must(t, unix.Capget(&header, &data[0]))
	return set == 0 || data[capability/32].Permitted&(1<<(capability%32)) == 0
}

// run runs the pod as a kubelet does, and waits for its daemon.
func (n *node) run(t *testing.T, p *manifest.Pod) *contained {
	t.Helper()
	for i := range p.Spec.Volumes {
		nstest.Must(t, os.MkdirAll(n.File(p.Path(&p.Spec.Volumes[i])), 0o755))
	}
	first, then, err := p.Configs()
	nstest.Must(t, err)
	pod, err := n.client.RunConfig(t.Context(), p.Sandbox(cgroupParent), first, then)
	if err != nil {
		t.Fatalf("%v\n%s", err, n.podLog(p.Metadata.Name, "check"))
	}
	socket := filepath.Join(p.Volume("run").HostPath.Path, filepath.Base(api.DefaultSocket))
	d := &contained{node: n, pod: pod, daemon: api.NewClient(n.File(socket))}
	if !nstest.Poll(patience, func() bool {
		_, err := d.daemon.Status(lasting(t))
		return err == nil
	}) {
		t.Fatalf("no nsqueued in container %s of %s:\n%s", pod.Name, n.Name, d.log())
	}
	return d
}

// log is what the daemon in the container wrote.
func (d *contained) log() string { return d.podLog(d.pod.Name, "nsqueued") }

// podLog is what a container of a pod of kube-system wrote.
func (n *node) podLog(pod, container string) string {
	b, err := os.ReadFile(n.File("/run/pod-logs/kube-system_" + pod + "/" + container + ".log"))
	if err != nil {
		return err.Error()
	}
	return tail(string(b))
}

// remove ends the container.
func (d *contained) remove(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Logf("%s's %s:\n%s", d.Name, d.pod.Name, d.log())
	}
	remove(t, d.pod)
}

// exec runs nsqueuectl in the container, as kubectl exec does.
func (d *contained) exec(t *testing.T, args ...string) string {
	t.Helper()
	return exec(t, d.pod, append([]string{nsqueuectl}, args...)...)
}

// attached returns the pod's attachment, which must be inspected.
func (d *contained) attached(t *testing.T, p *cri.Pod) api.Attachment {
	t.Helper()
	l, err := d.daemon.List(lasting(t))
	nstest.Must(t, err)
	for _, a := range l.Attachments {
		if a.ContainerID == p.ID && a.State == api.Active && a.Counters.Errors == 0 {
			return a
		}
	}
	t.Errorf("%s's %s: pod %s is not attached: %+v", d.Name, d.pod.Name, p.Name, l.Attachments)
	return api.Attachment{}
}

// inspects has two pods talk, and wants to see it.
func (d *contained) inspects(t *testing.T, from, to *cri.Pod) {
	t.Helper()
	before := d.attached(t, to).Counters.Packets
	out := exec(t, from, "ping", "-c", "3", "-i", "0.2", "-w", "60", to.IPs[0])
	after := d.attached(t, to).Counters
	if !strings.Contains(out, "3 packets received") || after.Packets < before+6 ||
		after.Accepted != after.Packets {
		t.Errorf("%s's %s: packets of %s were %d, are %+v after\n%s",
			d.Name, d.pod.Name, to.Name, before, after, out)
	}
}
