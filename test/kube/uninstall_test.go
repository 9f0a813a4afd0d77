// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// testUninstall removes the release while packets flow and pods come and go. The nodes
// are as before afterwards, and pods start and stop.
func testUninstall(t *testing.T, r *rig) {
	r.startGroup(t, "before", 4)
	r.underLoad(t, func() {
		done := make(chan error, 1)
		go func() {
			_, err := r.try("helm", "uninstall", release, "--namespace", home, "--wait",
				"--timeout", patience.String())
			done <- err
		}()
		r.kubectl(t, "rollout", "restart", "-n", "kube-flannel", "daemonset/flannel")
		r.startGroup(t, "meanwhile", 6)
		nstest.Must(t, <-done)
		r.awaitPods(t, home, "", 0)
		wait(calm)
	}).lossless(t)
	r.isClean(t)
	for _, group := range []string{"before", "meanwhile"} {
		r.endGroup(t, group)
	}
	r.startGroup(t, "after", 4)
	r.endGroup(t, "after")
	o := r.underLoad(t, func() { wait(calm) })
	o.lossless(t)
	if o.ignore.Uninspected != o.ignore.Sent || o.fail.Uninspected != o.fail.Sent {
		t.Errorf("packets are inspected still: %v", o)
	}
}

// isClean wants nothing of nsqueue to be left on the nodes.
func (r *rig) isClean(t *testing.T) {
	t.Helper()
	for i, n := range r.nodes {
		if diff := cmp.Diff(r.before[i], n.configuration(t)); diff != "" {
			t.Errorf("the configuration of %s is another than before (-before +after):\n%s",
				n.name(), diff)
		}
		files, err := n.Run("sh", "-c", "find /run/nsqueue /var/lib/nsqueue -type f -o -type s 2>/dev/null; true")
		nstest.Must(t, err)
		if files != "" {
			t.Errorf("left on %s:\n%s", n.name(), files)
		}
		all, err := filepath.Glob(n.File("/run/netns/*"))
		nstest.Must(t, err)
		for _, path := range all {
			tables, err := n.Run("nsenter", "--net=/run/netns/"+filepath.Base(path), "nft", "list", "tables")
			nstest.Must(t, err)
			if strings.Contains(tables, "nsqueue") {
				t.Errorf("left in a netns of %s:\n%s", n.name(), tables)
			}
		}
	}
}

// testInstallAgain installs at once what is uninstalled.
func testInstallAgain(t *testing.T, r *rig) {
	r.install(t)
	r.underLoad(t, func() {
		r.helm(t, "uninstall", release)
		r.install(t)
	}).lossless(t)
	r.stamped(t)
}

// install has the release inspect all pods.
func (r *rig) install(t *testing.T, args ...string) {
	t.Helper()
	r.helm(t, append([]string{
		"install", release, chart, "--create-namespace", "--values", r.values(t),
	}, args...)...)
	r.awaitAgents(t)
	r.awaitAttached(t)
}

// testUninstallWithoutHooks removes the release as some tools do, by deleting its objects.
// What that leaves on the nodes is then taken from them as docs/kubernetes.md says.
func testUninstallWithoutHooks(t *testing.T, r *rig) {
	r.underLoad(t, func() {
		r.helm(t, "uninstall", release, "--no-hooks")
		r.cleanUp(t)
		wait(calm)
	}).lossless(t)
	r.isClean(t)
	r.startGroup(t, "after", 4)
	r.endGroup(t, "after")
}

// testUninstallWithNodeDown removes the release while a node is down, and cleans that when
// it is back.
func testUninstallWithNodeDown(t *testing.T, r *rig) {
	down := r.nodes[1]
	r.install(t, "--set", "cleanup.timeout=20s")
	nstest.Must(t, down.cut())
	r.helm(t, "uninstall", release, "--timeout", patience.String())
	r.boot(t, down)
	r.awaitNodes(t)
	if !down.hasEntry(t) {
		t.Errorf("%s was down, and is clean", down.name())
	}
	r.cleanUp(t)
	r.isClean(t)
	r.awaitPods(t, namespace, "app=talker", len(r.talkers()))
	r.underLoad(t, func() { wait(calm) }).lossless(t)
}

// cleanUp takes what is left of nsqueue from the nodes by the manifest for that, in which
// only the image and the capabilities are those of this machine.
func (r *rig) cleanUp(t *testing.T) {
	t.Helper()
	const cleanup = "nsqueue-cleanup"
	text, err := os.ReadFile("../../deploy/kubernetes/uninstall/" + cleanup + ".yaml")
	nstest.Must(t, err)
	manifest := regexp.MustCompile(`image: ".*"`).ReplaceAllString(string(text),
		"image: "+imageName+":"+imageTags()[0])
	if !hasResource(t) {
		manifest = strings.ReplaceAll(manifest, "                - SYS_RESOURCE\n", "")
	}
	r.applyText(t, manifest)
	r.kubectl(t, "rollout", "status", "-n", home, "daemonset/"+cleanup, "--timeout", patience.String())
	r.kubectl(t, "delete", "-n", home, "daemonset", cleanup)
	r.awaitPods(t, home, "", 0)
}
