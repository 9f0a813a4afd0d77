// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// spec completes what a test says of a pod: it runs the tool's servers.
func spec(s cri.Spec) cri.Spec {
	if s.Namespace == "" {
		s.Namespace = "default"
	}
	s.Image, s.Command, s.Cgroup = podImage, []string{"/bin/podtool", "serve"}, cgroupParent
	return s
}

// newPod runs a pod, which is removed after the test.
func (n *node) newPod(t *testing.T, s cri.Spec) *cri.Pod {
	t.Helper()
	return n.newAttempt(t, s, 0)
}

// newAttempt is newPod for a pod that had sandboxes before.
func (n *node) newAttempt(t *testing.T, s cri.Spec, attempt uint32) *cri.Pod {
	t.Helper()
	p, err := n.client.Run(t.Context(), spec(s), attempt)
	nstest.Must(t, err)
	t.Cleanup(func() { remove(t, p) })
	n.awaitServers(t, p)
	return p
}

// awaitServers waits until the pod's servers answer in the pod itself.
func (n *node) awaitServers(t *testing.T, p *cri.Pod) {
	t.Helper()
	nstest.Eventually(t, patience, p.Name+" serves", func() bool {
		_, err := p.Exec(t.Context(), "podtool", "dns", "tcp", "127.0.0.1", "a.test")
		return err == nil
	})
}

func remove(t *testing.T, p *cri.Pod) {
	t.Helper()
	if err := p.Remove(lasting(t)); err != nil {
		t.Error(err)
	}
}

// exec runs a command in a pod, which must succeed.
func exec(t *testing.T, p *cri.Pod, argv ...string) string {
	t.Helper()
	out, err := p.Exec(t.Context(), argv...)
	nstest.Must(t, err)
	return out
}

// attachments returns the daemon's, by container ID.
func (n *node) attachments(t *testing.T) map[string]api.Attachment {
	t.Helper()
	l, err := n.daemon.List(lasting(t))
	nstest.Must(t, err)
	all := make(map[string]api.Attachment)
	for _, a := range l.Attachments {
		all[a.ContainerID] = a
	}
	return all
}

// attachment returns the pod's, which must be there.
func (n *node) attachment(t *testing.T, p *cri.Pod) api.Attachment {
	t.Helper()
	a, ok := n.attachments(t)[p.ID]
	if !ok {
		t.Fatalf("pod %s is not attached", p.Name)
	}
	return a
}

// checkInspected compares the daemon's idea of the pod with the truth.
func (n *node) checkInspected(t *testing.T, p *cri.Pod) {
	t.Helper()
	a := n.attachment(t, p)
	want := api.Pod{Namespace: p.Namespace, Name: p.Name, UID: p.UID}
	if a.Pod != want || a.State != api.Active || a.Origin != api.OriginCNI || a.Ifname != "eth0" {
		t.Errorf("attachment of %s: %+v", p.Name, a)
	}
	c := a.Counters
	if c.Packets == 0 || c.Accepted != c.Packets || c.Errors != 0 {
		t.Errorf("counters of %s: %+v", p.Name, c)
	}
}

// talk has one pod use all of the other's servers, at each of its addresses.
func talk(t *testing.T, from, to *cri.Pod) {
	t.Helper()
	for _, ip := range to.IPs {
		host := ip
		if strings.Contains(ip, ":") {
			host = "[" + ip + "]"
		}
		for _, try := range []struct{ want, argv string }{
			{"3 packets received", "ping -c 3 -i 0.2 -w 10 " + ip},
			{"hello from " + to.Name, "timeout 20 wget -q -O - http://" + host + "/"},
			{"192.0.2.53", "podtool dns udp " + ip + " pod.test"},
			{"192.0.2.53", "podtool dns tcp " + ip + " pod.test"},
		} {
			if out := exec(t, from, strings.Fields(try.argv)...); !strings.Contains(out, try.want) {
				t.Errorf("in %s %s: want %q in\n%s", from.Name, try.argv, try.want, out)
			}
		}
	}
}
