// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// testSettings has pods ask for more and for less inspection, by annotation and
// by namespace; the runtime passes both.
func testSettings(t *testing.T, c *rig) {
	inspect := func(v string) map[string]string { return map[string]string{"nsqueue.io/inspect": v} }
	policy := func(p api.Policy) map[string]string {
		return map[string]string{"nsqueue.io/failure-policy": string(p)}
	}
	for _, tt := range []struct {
		handler, namespace string
		annotations        map[string]string
		want               api.Policy // empty: not inspected
		refused            bool
	}{
		{recorded, "default", nil, api.Ignore, false},
		{recorded, "default", inspect("false"), "", false},
		{strict, "default", inspect("false"), api.Fail, true},
		{recorded, "default", policy(api.Fail), api.Fail, false},
		{lenient, "default", policy(api.Ignore), api.Ignore, false},
		{strict, "default", policy(api.Ignore), api.Fail, true},
		{recorded, "kube-system", nil, "", false},
		{recorded, "kube-system", inspect("true"), api.Ignore, false},
	} {
		for _, n := range c.nodes {
			name := fmt.Sprintf("%s %s/%s/%v", n.version, tt.handler, tt.namespace, tt.annotations)
			t.Run(name, func(t *testing.T) {
				n.nsqueued.Log.Reset()
				p := n.newPod(t, cri.Spec{
					Name: "settings", Namespace: tt.namespace, Handler: tt.handler,
					Annotations: tt.annotations,
				})
				a, attached := n.attachments(t)[p.ID]
				if attached != (tt.want != "") || a.FailurePolicy != tt.want {
					t.Errorf("attached: %v, policy %q; want policy %q", attached, a.FailurePolicy, tt.want)
				}
				exec(t, p, "ping", "-c", "1", "-w", "60", n.gateway(p))
				n.wantRefused(t, tt.refused)
			})
		}
	}
}

// wantRefused expects the log to say that settings were refused, or not to. What it says
// is read a moment later.
func (n *node) wantRefused(t *testing.T, want bool) {
	t.Helper()
	refused := func() bool { return n.nsqueued.Log.Contains("refused") }
	if want {
		nstest.Eventually(t, patience, "the log says what was refused", refused)
	} else if refused() {
		t.Errorf("reported as refused\n%s", n.nsqueued.Log.String())
	}
}

// gateway is the node's address in the pod's network.
func (n *node) gateway(p *cri.Pod) string {
	return p.IPs[0][:strings.LastIndex(p.IPs[0], ".")] + ".1"
}

// testHostPort reaches a pod from the other node through portmap.
func testHostPort(t *testing.T, c *rig) {
	for i, n := range c.nodes {
		p := n.newPod(t, cri.Spec{Name: "web", HostPort: 8080})
		before := n.attachment(t, p).Counters.Packets
		out, err := c.nodes[1-i].Run("busybox", "wget", "-q", "-O", "-",
			fmt.Sprintf("http://%s:8080/", n.IPv4.Addr()))
		nstest.Must(t, err)
		if out != "hello from web\n" {
			t.Errorf("on port 8080 of %s: %q", n.Name, out)
		}
		if n.attachment(t, p).Counters.Packets == before {
			t.Error("nothing of it was inspected")
		}
	}
}

// testBandwidth has a pod shaped by the plugin before nsqueue.
func testBandwidth(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		p := n.newPod(t, cri.Spec{Name: "slow", Handler: shaped, Annotations: map[string]string{
			"kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "10M",
		}})
		qdiscs, err := n.Run("tc", "qdisc", "show")
		nstest.Must(t, err)
		for _, rate := range []string{"rate 20Mbit", "rate 10Mbit"} {
			if !strings.Contains(qdiscs, rate) {
				t.Errorf("on %s no %s in\n%s", n.Name, rate, qdiscs)
			}
		}
		other := n.newPod(t, cri.Spec{Name: "fast"})
		talk(t, other, p)
		n.checkInspected(t, p)
	}
}

// testPodRestart replaces a pod's sandbox as a kubelet does: the old one's last
// DEL comes when the new one is long there.
func testPodRestart(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		s := cri.Spec{Name: "restarted"}
		old := n.newPod(t, s)
		nstest.Must(t, old.Stop(t.Context()))
		next := n.newAttempt(t, s, 1)
		nstest.Must(t, old.Remove(t.Context()))
		other := n.newPod(t, cri.Spec{Name: "other"})
		talk(t, other, next)
		n.checkInspected(t, next)
		if _, ok := n.attachments(t)[old.ID]; ok {
			t.Errorf("on %s the old sandbox is still attached", n.Name)
		}
	}
}

// testFailingAdd has the plugin refuse its configuration. The runtime must say
// why, and take back what the plugins before it did.
func testFailingAdd(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		leases := n.leases(t)
		_, err := n.client.Run(t.Context(), spec(cri.Spec{Name: "refused", Handler: broken}), 0)
		if err == nil || !strings.Contains(err.Error(), `plugin type="nsqueue" failed (add)`) ||
			!strings.Contains(err.Error(), "failurePolcy") {
			t.Errorf("on %s: %v", n.Name, err)
		}
		if got := n.leases(t); len(got) != len(leases) {
			t.Errorf("on %s addresses are taken: %v, before %v", n.Name, got, leases)
		}
		if left := n.attachments(t); len(left) != 0 {
			t.Errorf("on %s are attached: %v", n.Name, left)
		}
	}
}
