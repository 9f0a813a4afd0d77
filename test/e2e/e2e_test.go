// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests the built programs from outside: real plugins called by
// libcni, the real daemon, real packets. It needs root's network rights inside
// the node that it makes for itself, and what `make build cni-plugins` builds.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// patience is how long a test waits for what should come at once; it only ends
// what hangs.
const patience = time.Minute

// The environment may say where the conflists are, and which hook to use.
const (
	listsEnv = "NSQUEUE_CONFLISTS"
	hookEnv  = "NSQUEUE_HOOK"
)

// binDir returns the directory of the built programs.
func binDir(t testing.TB) string {
	t.Helper()
	return chain.BinDir(t, "nsqueue", "nsqueued", "nsqueuectl", "cni/flannel")
}

// rig is a daemon, and what a test does with it.
type rig struct {
	*chain.Daemon
	dir string
	// plugins is what the plugins logged.
	plugins *chain.Log
}

// newRig prepares a daemon with the policy, and stops it after the test.
func newRig(t *testing.T, policy api.Policy) *rig {
	t.Helper()
	return newWrappedRig(t, policy)
}

// newWrappedRig is newRig with a command in front of the daemon's.
func newWrappedRig(t *testing.T, policy api.Policy, wrap ...string) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), plugins: &chain.Log{}}
	r.Daemon = chain.NewDaemon(chain.DaemonConfig{
		Bin:      binDir(t),
		Socket:   filepath.Join(r.dir, "nsqueued.sock"),
		StateDir: r.dir,
		Hook:     os.Getenv(hookEnv),
		Policy:   policy,
		LogLevel: "debug",
		Wrap:     wrap,
	})
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("nsqueued's log:\n%s\nthe plugins' log:\n%s", r.Log.String(), r.plugins.String())
		}
	})
	return r
}

// startRig is newRig with the daemon running.
func startRig(t *testing.T, policy api.Policy) *rig {
	t.Helper()
	r := newRig(t, policy)
	r.start(t)
	return r
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The conflists that the tests use.
const (
	flannelList = "10-flannel.conflist"
	bridgeList  = "10-bridge.conflist"
)

// open loads a conflist whose entry of ours names the rig's daemon.
func (r *rig) open(t *testing.T, list, version string, policy api.Policy) *chain.Network {
	t.Helper()
	return r.load(t, chain.Config{
		Conflist:   list,
		CNIVersion: version,
		Change: map[string]map[string]any{
			chain.PluginType: {"socket": r.Socket(), "failurePolicy": policy},
			"bridge":         dualStack(),
		},
	})
}

// openStock loads flannel's conflist as it is without us.
func (r *rig) openStock(t *testing.T) *chain.Network {
	t.Helper()
	return r.load(t, chain.Config{Conflist: flannelList, Stock: true})
}

// load completes the configuration and opens the network.
func (r *rig) load(t *testing.T, c chain.Config) *chain.Network {
	t.Helper()
	dir := os.Getenv(listsEnv)
	if dir == "" {
		dir = "../../conflist"
	}
	c.Conflist = filepath.Join(dir, c.Conflist)
	c.Bin, c.Stderr = binDir(t), r.plugins
	n, err := chain.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// dualStack gives the bridge network IPv6, too, and a bridge that is not
// flannel's.
func dualStack() map[string]any {
	return map[string]any{
		"bridge": "cni1",
		"ipMasq": false,
		"ipam": map[string]any{
			"type": "host-local",
			"ranges": [][]map[string]string{
				{{"subnet": "10.245.0.0/24"}}, {{"subnet": "fd45::/64"}},
			},
			"routes": []map[string]string{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
		},
	}
}

// newPod adds a pod, which is deleted after the test.
func newPod(t *testing.T, n *chain.Network, name string) *chain.Pod {
	t.Helper()
	p, err := n.NewPod(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, p) })
	return p
}

// remove deletes a pod, also when the test is over. Doing it twice is fine.
func remove(t *testing.T, p *chain.Pod) {
	t.Helper()
	if _, err := os.Stat(p.NetNS.Path()); err != nil {
		return
	}
	if err := p.Remove(lasting(t)); err != nil {
		t.Error(err)
	}
}

// list returns the daemon's attachments.
func (r *rig) list(t *testing.T) []api.Attachment {
	t.Helper()
	l, err := r.Client.List(lasting(t))
	if err != nil {
		t.Fatal(err)
	}
	return l.Attachments
}

// counters returns what the daemon counted for the pod.
func (r *rig) counters(t *testing.T, p *chain.Pod) api.Counters {
	t.Helper()
	for _, a := range r.list(t) {
		if a.Key == p.Key() {
			return a.Counters
		}
	}
	t.Fatalf("pod %s is not attached", p.Name)
	return api.Counters{}
}

// usage returns what the daemon holds.
func (r *rig) usage(t *testing.T) chain.Usage {
	t.Helper()
	u, err := chain.UsageOf(r.PID())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// stateFiles returns the names of the daemon's attachment files.
func (r *rig) stateFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.dir, "attachments"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// lasting returns the test's context without its end, for what is also called
// by clean-up functions.
func lasting(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }
