// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"path/filepath"
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
	install := func() {
		r.helm(t, "install", release, chart, "--create-namespace", "--values", r.values(t))
	}
	install()
	r.awaitAgents(t)
	r.awaitAttached(t)
	r.underLoad(t, func() {
		r.helm(t, "uninstall", release)
		install()
		r.awaitAgents(t)
		r.awaitAttached(t)
	}).lossless(t)
	r.stamped(t)
}
