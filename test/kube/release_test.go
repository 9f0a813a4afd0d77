// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	release = "nsqueue"
	// home is the namespace of the release.
	home  = "nsqueue-system"
	chart = "../../deploy/charts/nsqueue"
	// agents are the labels of the pods of the DaemonSet.
	agents = "app.kubernetes.io/instance=" + release
)

// object is one of JSON.
type object = map[string]any

// values are those of the release: an inspector that stamps what it inspects, queues
// with room for what a busy machine has wait, and only capabilities that this machine
// has itself.
func (r *rig) values(t *testing.T) string {
	t.Helper()
	capabilities := []string{
		"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "DAC_OVERRIDE", "CHOWN",
	}
	if hasResource(t) {
		capabilities = append(capabilities, "SYS_RESOURCE")
	}
	dir := filepath.Dir(stamper)
	text, err := json.Marshal(object{
		"image":        object{"repository": imageName, "tag": imageTags()[0], "pullPolicy": "Never"},
		"worker":       object{"command": stamper},
		"capabilities": capabilities,
		"config": object{
			"inspectBudget": "1m",
			"queue": object{
				"length": 60000, "receiveBuffer": 64 << 20, "receiveBufferTotal": 64 << 30,
			},
		},
		"extraVolumes":      []object{{"name": "stamper", "hostPath": object{"path": dir}}},
		"extraVolumeMounts": []object{{"name": "stamper", "mountPath": dir, "readOnly": true}},
		"updateStrategy":    object{"maxSurge": len(r.nodes)},
		// Kubernetes' controller looks once for pods that have become available, and not
		// again where those of two nodes do within so many seconds: a rollout would stop.
		"minReadySeconds": 0,
	})
	nstest.Must(t, err)
	file := filepath.Join(r.work, "values.json")
	nstest.Must(t, os.WriteFile(file, text, 0o600))
	return file
}

// hasResource reports whether containers of this machine can have CAP_SYS_RESOURCE.
func hasResource(t *testing.T) bool {
	t.Helper()
	set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	nstest.Must(t, err)
	return set == 1
}

// helm runs one that must succeed.
func (r *rig) helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.try("helm", append(args, "--namespace", home)...)
	nstest.Must(t, err)
	return out
}

// upgrade changes values of the release, and waits until all old pods are gone.
func (r *rig) upgrade(t *testing.T, args ...string) {
	t.Helper()
	r.helm(t, slices.Concat([]string{
		"upgrade", release, chart, "--reuse-values", "--wait", "--timeout", patience.String(),
	}, args)...)
	r.awaitAgents(t)
}

// awaitAgents waits until each node has one pod of nsqueue, which is ready.
func (r *rig) awaitAgents(t *testing.T) []pod {
	t.Helper()
	return r.awaitPods(t, home, agents, len(r.nodes))
}

// agent returns the node's pod of nsqueue.
func (r *rig) agent(t *testing.T, n *node) pod {
	t.Helper()
	for _, p := range r.awaitAgents(t) {
		if p.Spec.NodeName == n.name() {
			return p
		}
	}
	t.Fatalf("no pod of nsqueue on %s", n.name())
	return pod{}
}

// attachments returns those of the node's pods of the tests, by the pods' names.
func (n *node) attachments(t *testing.T) map[string]api.Attachment {
	t.Helper()
	l, err := n.daemon.List(lasting(t))
	if err != nil {
		return nil
	}
	all := make(map[string]api.Attachment)
	for _, a := range l.Attachments {
		if a.State == api.Active && a.Pod.Namespace == namespace {
			all[a.Pod.Name] = a
		}
	}
	return all
}

// awaitAttached waits until exactly the pods of the test's namespace are inspected, each
// by its policy.
func (r *rig) awaitAttached(t *testing.T) {
	t.Helper()
	for _, n := range r.nodes {
		var want, got []string
		ok := nstest.Poll(patience, func() bool {
			want, got = nil, nil
			for _, p := range r.pods(t, namespace, "") {
				running := p.Status.Phase == "Running" && p.Metadata.DeletionTimestamp == nil
				if p.Spec.NodeName == n.name() && running {
					want = append(want, p.Metadata.Name)
				}
			}
			got = slices.Collect(maps.Keys(n.attachments(t)))
			slices.Sort(got)
			slices.Sort(want)
			return slices.Equal(got, want)
		})
		if !ok {
			t.Errorf("on %s these are inspected: %v, want %v", n.name(), got, want)
		}
	}
	for _, one := range r.talkers() {
		if a, ok := one.node.attachments(t)[one.name]; !ok || a.FailurePolicy != one.policy {
			t.Errorf("%s: attachment %+v, want policy %s", one.name, a, one.policy)
		}
	}
}

// stamped has packets flow, of which each must be inspected.
func (r *rig) stamped(t *testing.T) {
	t.Helper()
	r.awaitAttached(t)
	r.underLoad(t, func() { wait(calm) }).perfect(t)
}

// configuration is what the runtime reads on a node, and its plugins: file by file.
func (n *node) configuration(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, pattern := range []string{"/etc/cni/net.d/*", "/etc/cni/net.d/*/*", "/opt/cni/bin/*"} {
		files, err := filepath.Glob(n.File(pattern))
		nstest.Must(t, err)
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue // a directory
			}
			_, name, _ := strings.Cut(f, "/root/")
			all[name] = fmt.Sprintf("%d bytes", len(b))
			if len(b) < 1<<16 {
				all[name] = string(b)
			}
		}
	}
	return all
}
