// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// testSecondRelease installs another release in the same cluster, which is refused by
// name, and removes it. The first one does not notice.
func testSecondRelease(t *testing.T, r *rig) {
	const other, place = "other", "other-system"
	helm := func(args ...string) {
		_, err := r.try("helm", append(args, "--namespace", place)...)
		nstest.Must(t, err)
	}
	r.underLoad(t, func() {
		helm("install", other, chart, "--create-namespace", "--values", r.values(t))
		for _, n := range r.nodes {
			nstest.Must(t, n.await("the other release is refused", func() bool {
				s, err := n.daemon.Status(lasting(t))
				return err == nil && s.Supervisor.Handover != nil &&
					s.Supervisor.Handover.LastRefusal != nil &&
					s.Supervisor.Handover.LastRefusal.Instance == place+"/"+other
			}))
		}
		helm("uninstall", other, "--wait", "--timeout", patience.String())
		r.awaitPods(t, place, "", 0)
		r.awaitAttached(t)
		for _, n := range r.nodes {
			nstest.Must(t, n.await("the entry is there", func() bool { return n.hasEntry(t) }))
		}
		r.deletePod(t, r.agent(t, r.nodes[0]))
	}).perfect(t)
	r.stamped(t)
}
