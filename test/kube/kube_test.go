// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
)

func TestMain(m *testing.M) {
	cluster.Hold()
	nstest.Main(m)
}

// patience is how long a test waits for what should come soon; it only ends what
// hangs.
const patience = 5 * time.Minute

// step is one part of the test. Each finds the cluster as the one before leaves it.
type step struct {
	name string
	run  func(*testing.T, *rig)
}

// modeEnv is the variable that says how much is done: some steps (short), each of them
// (kube), or each of them several times (long).
const modeEnv = "NSQUEUE_KUBE"

func mode() string { return os.Getenv(modeEnv) }

func steps() []step {
	first := []step{{"pods talk", testPodsTalk}}
	plain := []step{{"storm without nsqueue", testPlainStorm}}
	short := []step{
		{"install", testInstall},
		{"upgrade", testUpgrade},
	}
	long := []step{
		{"delete", testDelete},
		{"bad upgrades", testBadUpgrades},
		{"half way", testHalfWay},
		{"runtimes restart", testRuntimesRestart},
		{"flannel restarts", testFlannel},
		{"force", testForce},
		{"kill", testKill},
		{"services", testServices},
		{"rules", testRules},
		{"labels", testLabels},
		{"second release", testSecondRelease},
		{"storm", testStorm},
		{"reboot", testReboot},
		{"kubectl plugin", testPlugin},
	}
	last := []step{
		{"uninstall", testUninstall},
		{"install again", testInstallAgain},
		{"without hooks", testUninstallWithoutHooks},
		{"node is down", testUninstallWithNodeDown},
	}
	switch mode() {
	case "short":
		return slices.Concat(first, short, last[:1])
	case "long":
		return slices.Concat(first, plain, short, long, long, long, last)
	}
	return slices.Concat(first, plain, short, long, last)
}

// TestKube makes the cluster once, and takes the steps one after the other. Those that
// NSQUEUE_KUBE_STEPS names, separated by commas, are taken alone.
func TestKube(t *testing.T) {
	list := chosen(t)
	r := newRig(t)
	for _, s := range list {
		began := time.Now()
		ok := t.Run(s.name, func(t *testing.T) { s.run(t, r) })
		t.Logf("@@ %s: %v", s.name, time.Since(began).Round(time.Second))
		if !ok {
			r.dump(t)
			return
		}
	}
}

// chosen returns the steps to take.
func chosen(t *testing.T) []step {
	t.Helper()
	all, names := steps(), os.Getenv("NSQUEUE_KUBE_STEPS")
	if names == "" {
		return all
	}
	wanted := make(map[string]bool)
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(all, func(s step) bool { return s.name == name }) {
			t.Fatalf("NSQUEUE_KUBE_STEPS names %q, which is no step", name)
		}
		wanted[name] = true
	}
	return slices.DeleteFunc(all, func(s step) bool { return !wanted[s.name] })
}

// binDir is where the built and fetched programs are.
func binDir(t testing.TB) string {
	t.Helper()
	dir := chain.BinDir(t,
		"nsqueued", "nsqueuectl", "test/stamper", "test/stuck", "test/podtool", "image", "cni/flannel",
		"runtimes/bin/containerd", "runtimes/bin/flannel", "runtimes/debian/root/usr/bin/etcd",
		"kube/kubelet", "kube/coredns", "kube/helm")
	return dir
}

// kubeDir is where Kubernetes is, without the link that leads to it.
func kubeDir(t testing.TB, bin string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Join(bin, "kube"))
	nstest.Must(t, err)
	return dir
}

// lasting is the test's context without its end, for what runs after it.
func lasting(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }
