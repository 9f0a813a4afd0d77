// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// exec runs a command in a pod.
func (r *rig) exec(pod string, argv ...string) (string, error) {
	return r.try("kubectl", append([]string{"exec", "-n", namespace, pod, "--"}, argv...)...)
}

// fetch asks a server of HTTP from a pod.
func (r *rig) fetch(pod, address string) (string, error) {
	return r.exec(pod, "timeout", "20", "wget", "-q", "-O", "-", "http://"+address+"/")
}

// answers wants the server to answer a pod as one of a group.
func (r *rig) answers(t *testing.T, what, from, address, group string) {
	t.Helper()
	var out string
	var err error
	if !nstest.Poll(patience, func() bool {
		out, err = r.fetch(from, address)
		return err == nil && strings.Contains(out, "hello from "+group)
	}) {
		t.Errorf("%s: %s asks %s: %q, %v", what, from, address, out, err)
	}
}

// testServices has pods use what a cluster offers, all of it under inspection.
func testServices(t *testing.T, r *rig) {
	r.startGroup(t, "web", 3)
	text, err := os.ReadFile("testdata/services.yaml")
	nstest.Must(t, err)
	r.applyText(t, string(text))
	var service struct {
		Spec struct {
			ClusterIP string
			Ports     []struct{ NodePort int }
		}
	}
	nstest.Must(t, r.api.get(t, "/api/v1/namespaces/"+namespace+"/services/web", &service))
	r.awaitPods(t, namespace, "app=probed", 1)
	r.awaitPods(t, namespace, "app=kept", 1)
	for _, n := range r.nodes {
		from := r.talkerOn(n).name
		r.answers(t, "ClusterIP", from, service.Spec.ClusterIP, "web-")
		for _, to := range r.nodes {
			r.answers(t, "NodePort", from,
				fmt.Sprintf("%s:%d", to.address(), service.Spec.Ports[0].NodePort), "web-")
		}
		r.answers(t, "hostPort", from, r.nodes[0].address()+":8080", "probed")
		r.keepsServer(t, from, service.Spec.ClusterIP)
		out, err := r.exec(from, "podtool", "dns", "udp", dnsService, "web.default.svc.cluster.local")
		if err != nil || strings.TrimSpace(out) != service.Spec.ClusterIP {
			t.Errorf("DNS: %s learns %q, %v", from, out, err)
		}
	}
	r.kubectl(t, "wait", "-n", namespace, "--for=condition=Complete", "job/short",
		"--timeout", patience.String())
	old := r.awaitPods(t, namespace, "app=kept", 1)[0]
	r.kubectl(t, "delete", "pod", "-n", namespace, old.Metadata.Name)
	if p := r.awaitPods(t, namespace, "app=kept", 1)[0]; p.Metadata.UID == old.Metadata.UID ||
		p.Metadata.Name != old.Metadata.Name {
		t.Errorf("the stateful pod is made again as %+v, was %+v", p.Metadata, old.Metadata)
	}
	r.awaitAttached(t)
	r.drain(t, r.nodes[1])
	r.kubectl(t, "delete", "-n", namespace, "-f", "testdata/services.yaml")
	r.endGroup(t, "web")
	r.awaitAttached(t)
}

// keepsServer wants a client to get the same server each time.
func (r *rig) keepsServer(t *testing.T, from, address string) {
	t.Helper()
	first := ""
	for range 5 {
		out, err := r.fetch(from, address)
		nstest.Must(t, err)
		if first == "" {
			first = out
		}
		if out != first {
			t.Errorf("with affinity, %s gets %q and %q", from, first, out)
		}
	}
}

// drain takes all pods from a node, and gives it back.
func (r *rig) drain(t *testing.T, n *node) {
	t.Helper()
	r.kubectl(t, "drain", n.name(), "--ignore-daemonsets", "--force", "--delete-emptydir-data",
		"--timeout", patience.String())
	nstest.Eventually(t, patience, "nothing of the drained node is inspected", func() bool {
		return len(n.attachments(t)) == 0
	})
	r.kubectl(t, "uncordon", n.name())
	r.startTalkers(t)
}

// clientRules refuse a server's name to the pods of one group.
const clientRules = `apiVersion: v1
kind: ConfigMap
metadata: {name: extra, namespace: ` + home + `}
data:
  clients.yaml: |
    apiVersion: nsqueue.io/v1alpha1
    kind: RuleSet
    metadata: {name: clients}
    spec:
      pods:
        when: pod.name.startsWith("refused-")
      rules:
      - name: web
        when: http.host == "%s"
        action: %s
`

// testRules runs the engine of rules, and changes its rules.
func testRules(t *testing.T, r *rig) {
	r.upgrade(t, "--set", "worker.command=", "--set", "rulesConfigMaps[0]=extra")
	server := r.startGroup(t, "web", 1)[0].Status.PodIP
	refused := r.startGroup(t, "refused", 1)[0].Metadata.Name
	allowed := r.startGroup(t, "allowed", 1)[0].Metadata.Name
	r.awaitAttached(t)
	r.answers(t, "before the rule", refused, server, "web-")
	r.underLoad(t, func() {
		r.applyText(t, fmt.Sprintf(clientRules, server, "reject"))
		nstest.Eventually(t, patience, "the rule holds", func() bool {
			out, err := r.fetch(refused, server)
			return err != nil && strings.Contains(out, "wget:")
		})
		r.answers(t, "another Deployment", allowed, server, "web-")
		r.tellsOf(t, "clients")
		r.applyText(t, fmt.Sprintf(clientRules, server, "nonsense"))
		r.awaitProblem(t)
		if out, err := r.fetch(refused, server); err == nil {
			t.Errorf("a broken rule took the old one's place: %q", out)
		}
		r.answers(t, "another Deployment", allowed, server, "web-")
		r.kubectl(t, "delete", "configmap", "-n", home, "extra")
		r.answers(t, "without the rule", refused, server, "web-")
	}).lossless(t)
	for _, group := range []string{"web", "refused", "allowed"} {
		r.endGroup(t, group)
	}
	r.upgrade(t, "--set", "worker.command="+stamper, "--set-json", "rulesConfigMaps=[]")
	r.stamped(t)
}

// labelRules refuse a server's name to pods that have a label.
const labelRules = `apiVersion: v1
kind: ConfigMap
metadata: {name: extra, namespace: ` + home + `}
data:
  labels.yaml: |
    apiVersion: nsqueue.io/v1alpha1
    kind: RuleSet
    metadata: {name: labels}
    spec:
      pods:
        when: pod.labels["tier"] == "closed"
      rules:
      - name: web
        when: http.host == "%s"
        action: reject
`

const labelledManifest = `apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: ` + namespace + `, labels: {app: labelled, tier: %[1]s}}
spec:
  nodeName: %[2]s
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
    - {name: main, image: ` + podImage + `, imagePullPolicy: Never, command: [/bin/podtool, serve]}
---
`

// testLabels has a rule choose pods by their labels, which the runtime of the second node
// tells. That of the first one has no such interface, and the rule is refused there.
func testLabels(t *testing.T, r *rig) {
	first, second := r.nodes[0], r.nodes[1]
	server := r.startGroup(t, "web", 1)[0].Status.PodIP
	r.upgrade(t, "--set", "worker.command=", "--set", "rulesConfigMaps[0]=extra")
	r.applyText(t, fmt.Sprintf(labelledManifest, "closed", second.name()))
	r.awaitPods(t, namespace, "app=labelled", 1)
	r.answers(t, "before the rule", "closed", server, "web-")
	r.applyText(t, fmt.Sprintf(labelRules, server))
	nstest.Eventually(t, patience, "the rule holds for the pod that ran before", func() bool {
		_, err := r.fetch("closed", server)
		return err != nil
	})
	nstest.Must(t, first.await("the set is refused", func() bool {
		s, err := first.daemon.Status(lasting(t))
		return err == nil && s.Rules != nil && strings.Contains(s.Rules.Problem, "labels")
	}))
	r.kubectl(t, "delete", "pod", "-n", namespace, "closed")
	r.applyText(t, fmt.Sprintf(labelledManifest, "closed", second.name())+
		fmt.Sprintf(labelledManifest, "open", second.name()))
	r.awaitPods(t, namespace, "app=labelled", 2)
	r.answers(t, "a pod with another label", "open", server, "web-")
	if out, err := r.fetch("closed", server); err == nil {
		t.Errorf("the pod with the label is answered: %q", out)
	}
	r.kubectl(t, "delete", "pod", "-n", namespace, "closed", "open")
	r.kubectl(t, "delete", "configmap", "-n", home, "extra")
	r.endGroup(t, "web")
	r.upgrade(t, "--set", "worker.command="+stamper, "--set-json", "rulesConfigMaps=[]")
	r.stamped(t)
}

// nsqueuectl runs in the pod of a node.
func (r *rig) nsqueuectl(t *testing.T, n *node, args ...string) string {
	t.Helper()
	out, err := r.try("kubectl", append([]string{
		"exec", "-n", home, r.agent(t, n).Metadata.Name, "-c", "nsqueued", "--",
		"/usr/local/bin/nsqueuectl",
	}, args...)...)
	nstest.Must(t, err)
	return out
}

// tellsOf wants an event of a rule set on one of the nodes.
func (r *rig) tellsOf(t *testing.T, set string) {
	t.Helper()
	var all string
	for _, n := range r.nodes {
		all += r.nsqueuectl(t, n, "events")
	}
	if !strings.Contains(all, set) {
		t.Errorf("no event tells of rule set %s:\n%s", set, all)
	}
}

// awaitProblem waits until each node says that its rules are wrong.
func (r *rig) awaitProblem(t *testing.T) {
	t.Helper()
	for _, n := range r.nodes {
		nstest.Must(t, n.await("the status tells of the broken rule", func() bool {
			s, err := n.daemon.Status(lasting(t))
			return err == nil && s.Rules != nil && s.Rules.Problem != ""
		}))
	}
}
