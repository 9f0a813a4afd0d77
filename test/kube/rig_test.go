// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
)

// rig is a cluster of two nodes.
type rig struct {
	bin, kube string // where the programs are
	work      string // what the test makes
	image     string // of nsqueue
	archives  []string
	ca        *authority
	admin     string // the administrator's kubeconfig
	api       *client
	fabric    *cluster.Switch
	control   []*cluster.Process
	nodes     []*node
	started   time.Time
	// before is the configuration of each node before nsqueue came.
	before []map[string]string
	// plain is how long a pod took among many, without nsqueue.
	plain time.Duration
}

// newRig makes the cluster, with flannel and CoreDNS, until pods can start.
func newRig(t *testing.T) *rig {
	t.Helper()
	bin := binDir(t)
	r := &rig{bin: bin, kube: kubeDir(t, bin), work: t.TempDir(), started: time.Now()}
	var err error
	r.fabric, err = cluster.NewSwitch(netip.MustParsePrefix(controlIP + "/24"))
	nstest.Must(t, err)
	t.Cleanup(func() { r.end(t) })
	r.makeImages(t)
	r.startControlPlane(t)
	for i, version := range []string{oldContainerd, "2.4.2"} {
		n := &node{rig: r, number: i + 1, version: version}
		r.ca.kubeconfig(t, n.name(), "system:node:"+n.name(), "system:nodes")
		r.nodes = append(r.nodes, n)
	}
	r.ca.kubeconfig(t, "proxy", "system:kube-proxy", "")
	r.boot(t, r.nodes...)
	r.apply(t, "flannel.yaml", "coredns.yaml")
	r.awaitNodes(t)
	r.awaitPods(t, "kube-system", "k8s-app=kube-dns", 1)
	for _, n := range r.nodes {
		r.before = append(r.before, n.configuration(t))
	}
	r.progress(t, "two nodes are ready after %v", time.Since(r.started).Round(time.Second))
	return r
}

// boot starts nodes at the same time.
func (r *rig) boot(t *testing.T, nodes ...*node) {
	t.Helper()
	var booting sync.WaitGroup
	for _, n := range nodes {
		booting.Go(func() {
			if err := n.boot(t); err != nil {
				t.Errorf("boot %s: %v", n.name(), err)
			}
		})
	}
	booting.Wait()
	if t.Failed() {
		r.dump(t)
		t.FailNow()
	}
	r.progress(t, "containerd and the kubelet run on %d nodes", len(nodes))
}

// awaitNodes waits until all nodes take pods.
func (r *rig) awaitNodes(t *testing.T) {
	t.Helper()
	ok := nstest.Poll(patience, func() bool {
		var list struct{ Items []apiNode }
		if err := r.api.get(t, "/api/v1/nodes", &list); err != nil {
			return false
		}
		ready := 0
		for _, n := range list.Items {
			if has(n.Status.Conditions, "Ready") {
				ready++
			}
		}
		return ready == len(r.nodes)
	})
	if !ok {
		t.Logf("%s", r.kubectl(t, "get", "pods,nodes", "-A", "-o", "wide"))
		r.dump(t)
		t.Fatalf("the nodes are not ready within %v", patience)
	}
}

// apply gives the cluster objects of files in testdata, with the names of images in them.
func (r *rig) apply(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("testdata", f))
		nstest.Must(t, err)
		r.applyText(t, string(text))
	}
}

func (r *rig) applyText(t *testing.T, text string) {
	t.Helper()
	cmd := r.command("kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// command is one that an administrator runs.
func (r *rig) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.kube, name), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.admin, "HOME="+r.work)
	return cmd
}

// try runs a command of an administrator, and returns what it prints.
func (r *rig) try(name string, args ...string) (string, error) {
	out, err := r.command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// kubectl runs one that must succeed, and returns what it prints.
func (r *rig) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.try("kubectl", args...)
	nstest.Must(t, err)
	return out
}

// end stops everything. What is left of it ends with the test's process: all of it is
// in the namespaces of that.
func (r *rig) end(t *testing.T) {
	t.Helper()
	if t.Failed() {
		r.dump(t)
	}
	for _, n := range r.nodes {
		if n.Node != nil {
			if err := n.cut(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, p := range r.control {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
	if err := r.fabric.Close(); err != nil {
		t.Error(err)
	}
}

// dump writes what all programs have written into bin/test/kube/.
func (r *rig) dump(t *testing.T) {
	t.Helper()
	dir := filepath.Join(r.bin, "test/kube")
	var err error
	keep := func(name string, text string) {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".log"), []byte(text), 0o644))
	}
	nstest.Must(t, os.MkdirAll(dir, 0o755))
	for _, p := range r.control {
		keep(filepath.Base(p.Name()), p.Log.String())
	}
	for _, n := range r.nodes {
		for name, p := range map[string]*cluster.Process{
			"containerd": n.containerd, "kubelet": n.kubelet, "proxy": n.proxy,
		} {
			if p != nil {
				keep(n.name()+"-"+name, p.Log.String())
			}
		}
		if n.Node != nil {
			pods, _ := n.Run("sh", "-c", "tail -n +1 -q /var/log/pods/*/*/*.log | tail -c 3000000")
			keep(n.name()+"-pods", pods)
		}
	}
	state, _ := r.try("kubectl", "get", "events,pods,ds", "-A", "-o", "wide")
	keep("objects", state)
	described, _ := r.try("kubectl", "describe", "pods", "-A")
	keep("pods", described)
	if err != nil {
		t.Error(err)
	}
	r.progress(t, "logs of all programs: %s", dir)
}
