// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

// Package runtimes runs nsqueue under the programs that call it in the field:
// flanneld with vxlan over two nodes, containerd 1.6 and 2 through CRI, podman.
// The nodes are namespaces (package cluster); the programs come from
// `make need-runtimes`.
package runtimes

import (
	"context"
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
// hangs. Beside other work, the end of 50 pods' shims takes more than a minute.
const patience = 5 * time.Minute

// binDir is where the built and fetched programs are.
func binDir(t testing.TB) string {
	t.Helper()
	return chain.BinDir(t,
		"nsqueued", "nsqueuectl", "cni/bandwidth", "runtimes/bin/containerd", "runtimes/bin/flannel",
		"runtimes/debian/root/usr/bin/podman", "test/recorder", "test/podtool", "image")
}

// TestRuntimes makes the two nodes once; the subtests use them one after the
// other, and at the end nothing may be left of what they did.
func TestRuntimes(t *testing.T) {
	c := newCluster(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *rig)
	}{
		{"hiding containers", testHidingContainers},
		{"ping across nodes", testPingAcrossNodes},
		{"traffic", testTraffic},
		{"settings", testSettings},
		{"host port", testHostPort},
		{"bandwidth", testBandwidth},
		{"pod restart", testPodRestart},
		{"failing ADD", testFailingAdd},
		{"dual stack", testDualStack},
		{"storm", testStorm},
		{"added time", testAddedTime},
		{"labels", testLabels},
		{"podman", testPodman},
		{"image", testImage},
		{"CRI-O's calls", testCRIO},
		{"nerdctl's calls", testNerdctl},
		{"calls", testCalls},
		{"installer", testInstall},
		{"not fooled", testNotFooled},
		{"nothing is left", func(t *testing.T, c *rig) {
			for _, n := range c.nodes {
				n.checkNothingLeft(t)
			}
		}},
		{"shipped pod", testShipped},
	} {
		ok := t.Run(step.name, func(t *testing.T) { step.run(t, c) })
		if !ok {
			c.dump(t)
			return
		}
	}
}

// lasting is the test's context without its end, for clean-up functions.
func lasting(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }
