// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"testing"
	"time"
)

// testPodsTalk has packets flow between the nodes, without nsqueue.
func testPodsTalk(t *testing.T, r *rig) {
	r.startTalkers(t)
	o := r.underLoad(t, func() { wait(5 * time.Second) })
	o.lossless(t)
	if seen := o.ignore.Sent + o.fail.Sent - o.ignore.Uninspected - o.fail.Uninspected; seen != 0 {
		t.Errorf("%d datagrams are stamped, and nobody stamps any: %v", seen, o)
	}
}
