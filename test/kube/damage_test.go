// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// testDelete deletes the pods of nsqueue.
func testDelete(t *testing.T, r *rig) {
	r.underLoad(t, func() {
		for _, p := range r.awaitAgents(t) {
			r.deletePod(t, p)
		}
	}).perfect(t)
	r.awaitAttached(t)
}

// deletePod waits until the pod is gone and another one is in its place.
func (r *rig) deletePod(t *testing.T, p pod, args ...string) {
	t.Helper()
	r.kubectl(t, append([]string{
		"delete", "pod", p.Metadata.Name, "--namespace", home, "--timeout", patience.String(),
	}, args...)...)
	r.awaitAgents(t)
}

// testForce deletes them without waiting for their end, which kills all of it: what is
// inspected under Fail has no network until the next pod is there.
func testForce(t *testing.T, r *rig) {
	o := r.underLoad(t, func() {
		for _, p := range r.awaitAgents(t) {
			r.deletePod(t, p, "--force", "--grace-period=0")
		}
		r.awaitAttached(t)
		wait(calm)
	})
	if o.fail.Uninspected > 0 {
		t.Errorf("packets to pods under Fail passed uninspected: %v", o)
	}
	r.stamped(t)
}

// testKill kills the worker, then the supervisor, and then both, on each node.
func testKill(t *testing.T, r *rig) {
	orphans := 0
	o := r.underLoad(t, func() {
		for _, n := range r.nodes {
			s, err := n.daemon.Status(lasting(t))
			nstest.Must(t, err)
			n.kill(t, s.PID)
			orphans += int(n.awaitOther(t, s.PID))
		}
		wait(calm)
	})
	r.progress(t, "%d orphans", orphans)
	if o.ignore.Lost > 0 || o.fail.Uninspected > 0 || o.ignore.Uninspected > orphans ||
		o.fail.Lost > orphans {
		t.Errorf("worker killed, %d orphans: %v", orphans, o)
	}
	for _, victims := range []func(api.Status) []int{
		func(s api.Status) []int { return []int{s.Supervisor.PID} },
		func(s api.Status) []int { return []int{s.Supervisor.PID, s.PID} },
	} {
		o = r.underLoad(t, func() {
			for _, n := range r.nodes {
				s, err := n.daemon.Status(lasting(t))
				nstest.Must(t, err)
				n.kill(t, victims(s)...)
				n.awaitOther(t, s.PID)
			}
			r.awaitAgents(t)
			r.awaitAttached(t)
			wait(calm)
		})
		if o.fail.Uninspected > 0 {
			t.Errorf("packets to pods under Fail passed uninspected: %v", o)
		}
		r.stamped(t)
	}
}

// kill kills processes, by their number on the node.
func (n *node) kill(t *testing.T, pids ...int) {
	t.Helper()
	args := []string{"-9"}
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	_, err := n.Run("kill", args...)
	nstest.Must(t, err)
}

// awaitOther waits for a worker that is another process, and returns what the one
// before had in its hands.
func (n *node) awaitOther(t *testing.T, before int) (orphans uint64) {
	t.Helper()
	nstest.Must(t, n.await("another worker serves", func() bool {
		s, err := n.daemon.Status(lasting(t))
		orphans = s.Orphans
		return err == nil && s.PID != before
	}))
	return orphans
}

// testRuntimesRestart restarts the kubelet and containerd of each node, also while a
// rollout is on its way.
func testRuntimesRestart(t *testing.T, r *rig) {
	restart := func() {
		for _, n := range r.nodes {
			nstest.Must(t, n.containerd.Stop())
			nstest.Must(t, n.startContainerd(t))
			nstest.Must(t, n.kubelet.Stop())
			nstest.Must(t, n.startKubelet(t))
		}
	}
	r.underLoad(t, func() {
		restart()
		r.awaitNodes(t)
		r.helm(t, "upgrade", release, chart, "--reuse-values", "--set", "image.tag=b",
			"--set", "logLevel=warn")
		restart()
		r.awaitNodes(t)
		r.upgrade(t, "--set", "image.tag=a", "--set", "logLevel=debug")
	}).perfect(t)
	r.awaitAttached(t)
}

// testFlannel restarts flannel, each of whose pods writes the CNI configuration of its
// node anew, while pods start.
func testFlannel(t *testing.T, r *rig) {
	const times = 5
	r.underLoad(t, func() {
		for i := range times {
			r.kubectl(t, "rollout", "restart", "-n", "kube-flannel", "daemonset/flannel")
			r.startGroup(t, fmt.Sprintf("gap%d", i), 6)
			r.kubectl(t, "rollout", "status", "-n", "kube-flannel", "daemonset/flannel",
				"--timeout", patience.String())
		}
		for _, n := range r.nodes {
			nstest.Must(t, n.await("the entry is back", func() bool { return n.hasEntry(t) }))
		}
		r.awaitAttached(t)
	}).perfect(t)
	for i := range times {
		r.endGroup(t, fmt.Sprintf("gap%d", i))
	}
	r.awaitAttached(t)
}

// hasEntry reports whether the runtime will call nsqueue.
func (n *node) hasEntry(t *testing.T) bool {
	t.Helper()
	for name, text := range n.configuration(t) {
		if strings.HasPrefix(name, "etc/cni/net.d/") && strings.Contains(text, `"nsqueue"`) {
			return true
		}
	}
	return false
}

const groupManifest = `apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: ` + namespace + `}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - name: main
          image: ` + podImage + `
          command: [/bin/podtool, serve]
          readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 2}
`

// startGroup has so many pods run, and waits until they do.
func (r *rig) startGroup(t *testing.T, name string, pods int) []pod {
	t.Helper()
	r.applyText(t, fmt.Sprintf(groupManifest, name, pods))
	return r.awaitPods(t, namespace, "app="+name, pods)
}

// endGroup removes them, and waits until the cluster has forgotten them.
func (r *rig) endGroup(t *testing.T, name string) {
	t.Helper()
	r.kubectl(t, "delete", "deployment", name, "--namespace", namespace)
	r.awaitPods(t, namespace, "app="+name, 0)
}

// testReboot has each node lose its power, one after the other. What its disk has stays.
func testReboot(t *testing.T, r *rig) {
	for _, n := range r.nodes {
		r.progress(t, "%s loses its power", n.name())
		nstest.Must(t, n.cut())
		r.boot(t, n)
		r.awaitNodes(t)
		r.awaitAgents(t)
		nstest.Eventually(t, patience, "the node's pods run again", func() bool {
			_, _, err := n.netns(t, r.talkerOn(n).name)
			return err == nil
		})
		r.awaitPods(t, namespace, "app=talker", len(r.talkers()))
		r.awaitAttached(t)
		for name, a := range n.attachments(t) {
			r.progress(t, "%s: %s by %s", name, a.FailurePolicy, a.Origin)
			if a.FailurePolicy == api.Fail && a.Origin != api.OriginCNI {
				t.Errorf("%s ran before it was inspected: %+v", name, a)
			}
		}
	}
	wait(time.Second)
	r.stamped(t)
}

func (r *rig) talkerOn(n *node) *talker {
	for _, one := range r.talkers() {
		if one.node == n {
			return one
		}
	}
	return nil
}

// stormPods is how many pods start on each node.
const stormPods = 50

// testPlainStorm has many pods start without nsqueue, which testStorm compares itself with.
func testPlainStorm(t *testing.T, r *rig) {
	r.underLoad(t, func() { r.plain = r.storm(t) }).lossless(t)
}

// testStorm has many pods start on each node while nsqueue is upgraded.
func testStorm(t *testing.T, r *rig) {
	var took time.Duration
	r.underLoad(t, func() {
		r.helm(t, "upgrade", release, chart, "--reuse-values", "--set", "image.tag=b",
			"--set", "logLevel=info")
		took = r.storm(t)
		r.upgrade(t, "--set", "image.tag=a", "--set", "logLevel=debug")
		r.awaitAttached(t)
	}).perfect(t)
	if r.plain > 0 {
		r.progress(t, "a pod is ready after %.2f of the time without nsqueue",
			took.Seconds()/r.plain.Seconds())
	}
}

// storm has many pods start at once, and end. It returns the median of the times that they
// took.
func (r *rig) storm(t *testing.T) time.Duration {
	t.Helper()
	pods := r.startGroup(t, "storm", stormPods*len(r.nodes))
	times := make([]time.Duration, len(pods))
	for i, p := range pods {
		times[i] = p.untilReady()
	}
	slices.Sort(times)
	median := times[len(times)/2]
	r.progress(t, "%d pods a node are ready after %v, median", stormPods, median)
	r.endGroup(t, "storm")
	return median
}
