// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// testAddedTime makes pods in turn with flannel's stock chain and with nsqueue
// at its end, and prints how long RunPodSandbox takes with each.
func testAddedTime(t *testing.T, c *rig) {
	for _, n := range c.nodes {
		n.addedTime(t)
	}
}

// addedTime prints the median of what nsqueue added to one sandbox.
func (n *node) addedTime(t *testing.T) {
	t.Helper()
	const rounds = 15
	var with, without, added []time.Duration
	for i := range rounds {
		plain := n.sandboxTime(t, stock, i)
		ours := n.sandboxTime(t, direct, i)
		without, with = append(without, plain), append(with, ours)
		added = append(added, ours-plain)
	}
	t.Logf("@@ containerd %s, RunPodSandbox, median of %d: %v with the stock chain, "+
		"%v with nsqueue, added %v", n.version, rounds, median(without), median(with), median(added))
}

// sandboxTime makes a pod, looks at its inspection, and removes it.
func (n *node) sandboxTime(t *testing.T, handler string, round int) time.Duration {
	t.Helper()
	s := spec(cri.Spec{Name: fmt.Sprintf("timed-%s%d", handler, round), Handler: handler})
	s.Command = nil
	p, err := n.client.Run(t.Context(), s, 0)
	nstest.Must(t, err)
	defer remove(t, p)
	if _, attached := n.attachments(t)[p.ID]; attached != (handler == direct) {
		t.Fatalf("attached with handler %s: %v", handler, attached)
	}
	return p.SandboxTook
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond)
}
