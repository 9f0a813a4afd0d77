// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// calm is how long packets flow where nothing happens.
const calm = 3 * time.Second

// testInstall installs the chart where pods run that are older.
func testInstall(t *testing.T, r *rig) {
	r.startTalkers(t)
	r.underLoad(t, func() {
		r.helm(t, "install", release, chart, "--create-namespace", "--values", r.values(t),
			"--wait", "--timeout", patience.String())
		r.awaitAgents(t)
		r.awaitAttached(t)
		wait(calm)
	}).lossless(t)
	r.stamped(t)
}

// testUpgrade replaces the image, five times, and changes a value.
func testUpgrade(t *testing.T, r *rig) {
	times := 5
	if mode() == "short" {
		times = 1
	}
	r.underLoad(t, func() {
		r.kubectl(t, "rollout", "restart", "-n", "kube-flannel", "daemonset/flannel")
		for i := range times {
			tag := imageTags()[(i+1)%2]
			r.upgrade(t, "--set", "image.tag="+tag)
			for _, p := range r.awaitAgents(t) {
				if got := r.imageOf(t, p); got != imageName+":"+tag {
					t.Errorf("after upgrade %d %s runs %s", i+1, p.Metadata.Name, got)
				}
			}
		}
		r.upgrade(t, "--set", "logLevel=debug")
	}).perfect(t)
	r.awaitAttached(t)
}

func (r *rig) imageOf(t *testing.T, p pod) string {
	t.Helper()
	var full struct {
		Spec struct{ Containers []struct{ Image string } }
	}
	nstest.Must(t, r.api.get(t, "/api/v1/namespaces/"+home+"/pods/"+p.Metadata.Name, &full))
	return full.Spec.Containers[0].Image
}

// wrong is an upgrade that must not succeed.
type wrong struct {
	name string
	args []string
	// says is what the new pod's state tells.
	says []string
}

// testBadUpgrades upgrades to what cannot run, looks that the old one goes on and that
// the cluster says why, and rolls back.
func testBadUpgrades(t *testing.T, r *rig) {
	for _, w := range []wrong{
		{"missing image", []string{"--set", "image.tag=none"}, []string{"ErrImageNeverPull"}},
		{
			"bad configuration", // past the schema, which would refuse it before
			[]string{"--set", "config.nonsense=1", "--skip-schema-validation"},
			[]string{"check:", "Error"},
		},
		{
			"worker that exits",
			[]string{"--set", "worker.command=/usr/local/bin/nsqueuectl"},
			[]string{"check:", "Error"},
		},
		{
			"bad rules",
			[]string{"--set", "worker.command=", "--set", `rules.bad\.yaml=kind: Nonsense`},
			[]string{"check:", "Error"},
		},
		{"worker that is never ready", []string{"--set", "worker.command=" + stuck}, nil},
	} {
		t.Run(w.name, func(t *testing.T) { r.failToUpgrade(t, w) })
	}
}

func (r *rig) failToUpgrade(t *testing.T, w wrong) {
	t.Helper()
	old := r.awaitAgents(t)
	r.underLoad(t, func() {
		r.helm(t, slices.Concat([]string{"upgrade", release, chart, "--reuse-values"}, w.args)...)
		nstest.Eventually(t, patience, "the new pod says why it does not run", func() bool {
			return slices.ContainsFunc(r.pods(t, home, agents), func(p pod) bool {
				return !p.ready() && !slices.ContainsFunc(w.says, func(text string) bool {
					return !strings.Contains(p.waiting(), text)
				})
			})
		})
		wait(calm)
		for _, p := range old {
			if !slices.ContainsFunc(r.pods(t, home, agents), func(now pod) bool {
				return now.Metadata.UID == p.Metadata.UID && now.ready()
			}) {
				t.Errorf("%s does not run any more", p.Metadata.Name)
			}
		}
		r.helm(t, "rollback", release, "--wait", "--timeout", patience.String())
		r.awaitAgents(t)
	}).perfect(t)
	r.awaitAttached(t)
}

// testHalfWay rolls back while the pods of both versions live.
func testHalfWay(t *testing.T, r *rig) {
	r.upgrade(t, "--set", "minReadySeconds=40")
	old := r.awaitAgents(t)
	r.underLoad(t, func() {
		r.helm(t, "upgrade", release, chart, "--reuse-values", "--set", "image.tag=b",
			"--set", "logLevel=info")
		nstest.Eventually(t, patience, "both pods are ready on each node", func() bool {
			ready := 0
			for _, p := range r.pods(t, home, agents) {
				if p.ready() && p.Metadata.DeletionTimestamp == nil {
					ready++
				}
			}
			return ready == 2*len(r.nodes)
		})
		r.helm(t, "rollback", release)
		for _, p := range r.awaitAgents(t) {
			if !slices.ContainsFunc(old, func(o pod) bool { return o.Metadata.UID == p.Metadata.UID }) {
				t.Errorf("%s is left, which is none of the old pods", p.Metadata.Name)
			}
		}
	}).perfect(t)
	r.awaitAttached(t)
	r.upgrade(t, "--set", "minReadySeconds=0")
}
