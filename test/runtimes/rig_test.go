// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
	"github.com/nsqueue/nsqueue/test/runtimes/image"
)

// podImage is what all pods run, and what holds their sandboxes.
const podImage = "docker.io/library/pod:test"

// cgroupParent is above everything that the tests' pods make; see checkCgroups.
const cgroupParent = "/nsqueue-test-runtimes"

// rig is two nodes with all that a node needs.
type rig struct {
	bin     string
	image   string // of nsqueue
	archive string // that has the image
	nodes   []*node
	fabric  *cluster.Switch
	started time.Time
}

// node is one of them.
type node struct {
	*cluster.Node

	number   int
	version  string // of its containerd
	client   *cri.Client
	daemon   *api.Client
	runtime  *cluster.Process
	nsqueued *cluster.Process
	others   []*cluster.Process
	watched  []*watched

	// What nsqueued held when its first pod was gone.
	supervisorBefore, workerBefore chain.Usage
}

// newCluster makes the nodes and starts everything on them.
func newCluster(t *testing.T) *rig {
	t.Helper()
	c := &rig{bin: binDir(t), started: time.Now()}
	removeCgroups(t)
	var err error
	c.fabric, err = cluster.NewSwitch(netip.MustParsePrefix("192.168.77.254/24"))
	nstest.Must(t, err)
	t.Cleanup(func() { c.end(t) })
	for i, version := range []string{"1.6.20", "2.4.2"} {
		c.nodes = append(c.nodes, c.newNode(t, i+1, version))
	}
	c.startEtcd(t)
	archives := []string{c.podImage(t), c.nsqueueImage(t)}
	var ready sync.WaitGroup
	for _, n := range c.nodes {
		ready.Go(func() {
			if err := n.start(archives); err != nil {
				t.Errorf("start %s: %v", n.Name, err)
			}
		})
	}
	ready.Wait()
	if t.Failed() {
		c.dump(t)
		t.FailNow()
	}
	for _, n := range c.nodes {
		remove(t, n.newPod(t, cri.Spec{Name: "first"}))
		n.supervisorBefore, n.workerBefore = n.usage(t)
	}
	t.Logf("@@ two nodes are ready after %v", time.Since(c.started).Round(time.Millisecond))
	return c
}

func (c *rig) newNode(t *testing.T, number int, version string) *node {
	t.Helper()
	config := cluster.NodeConfig{
		Name: fmt.Sprintf("node%d", number),
		IPv4: netip.MustParsePrefix(fmt.Sprintf("192.168.77.%d/24", number)),
		IPv6: netip.MustParsePrefix(fmt.Sprintf("fd77::%d/64", number)),
		Over: filepath.Join(c.bin, "runtimes/debian/root"),
		Bind: []string{c.bin},
	}
	if version != "1.6.20" { // Debian's is at its usual place
		config.Path = []string{filepath.Join(c.bin, "runtimes/bin")}
	}
	cn, err := c.fabric.Start(config)
	nstest.Must(t, err)
	n := &node{Node: cn, number: number, version: version}
	n.client, err = cri.Dial(n.File("/run/containerd/containerd.sock"))
	nstest.Must(t, err)
	n.daemon = api.NewClient(n.File(api.DefaultSocket))
	nstest.Must(t, n.furnish(c.bin))
	return n
}

// startEtcd runs flanneld's data base on the first node.
func (c *rig) startEtcd(t *testing.T) {
	t.Helper()
	n := c.nodes[0]
	url := fmt.Sprintf("http://%s:2379", n.IPv4.Addr())
	nstest.Must(t, n.launch("etcd", "--data-dir", "/var/lib/etcd/data", "--listen-client-urls", url,
		"--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380",
		"--log-level", "warn"))
	const network = `{"Network":"10.244.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}`
	body := fmt.Sprintf(`{"key":%q,"value":%q}`, encode("/coreos.com/network/config"), encode(network))
	nstest.Eventually(t, patience, "etcd takes flannel's configuration", func() bool {
		resp, err := http.Post(url+"/v3/kv/put", "application/json", bytes.NewBufferString(body))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	http.DefaultClient.CloseIdleConnections()
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// podImage makes the archive of the pods' image and returns where it is.
func (c *rig) podImage(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	nstest.Must(t, err)
	defer f.Close()
	nstest.Must(t, image.Spec{
		Name:     podImage,
		Programs: []string{"/usr/bin/busybox", filepath.Join(c.bin, "test/podtool")},
		Links:    []string{"sh", "cat", "ping", "sleep", "timeout", "touch", "wget", "ip"},
		Command:  []string{"/bin/sleep", "1000000"},
	}.Write(f))
	return f.Name()
}

// nsqueueImage returns where the archive of the image is that was built with the
// programs in bin/.
func (c *rig) nsqueueImage(t *testing.T) string {
	t.Helper()
	out, err := osexec.Command(filepath.Join(c.bin, "nsqueued"), "--version").Output()
	nstest.Must(t, err)
	version := strings.TrimSpace(strings.TrimPrefix(string(out), "nsqueued "))
	c.image = "ghcr.io/nsqueue/nsqueue:" + version
	c.archive = filepath.Join(c.bin, "image/nsqueue-"+version+".tar")
	return c.archive
}

// launch starts a program that ends with the node.
func (n *node) launch(name string, args ...string) error {
	p, err := n.Launch(nil, name, args...)
	if err == nil {
		n.others = append(n.others, p)
	}
	return err
}

// start runs what a node runs, until the runtime says that it takes pods.
func (n *node) start(archives []string) error {
	err := n.launch("flanneld", fmt.Sprintf("--etcd-endpoints=http://%s:2379", "192.168.77.1"),
		"--iface=eth0", "--ip-masq")
	if err != nil {
		return err
	}
	if err := n.await("flanneld's lease", func() bool {
		_, err := os.Stat(n.File("/run/flannel/subnet.env"))
		return err == nil
	}); err != nil {
		return err
	}
	if err := n.startDaemon(); err != nil {
		return err
	}
	return n.startRuntime(archives)
}

// life is how long a daemon has to live for its death not to count as part of a
// crash loop, in which the supervisor gives pods their network back, uninspected.
const life = time.Second

// startDaemon runs nsqueued under its supervisor.
func (n *node) startDaemon() error {
	var err error
	n.nsqueued, err = n.Launch(nil, "/usr/local/sbin/nsqueued", "supervise",
		"--runtime-dir", "/run/nsqueue", "--max-deaths", "0", "--death-window", life.String(),
		"--", "--log-level", "debug")
	if err != nil {
		return err
	}
	return n.await("nsqueued", func() bool { return n.worker() != 0 })
}

// startRuntime runs containerd and gives it the images.
func (n *node) startRuntime(archives []string) error {
	var err error
	n.runtime, err = n.Launch(nil, "containerd", "--config", "/etc/containerd/config.toml")
	if err != nil {
		return err
	}
	if err := n.await("containerd", func() bool {
		_, err := n.Run("ctr", "version")
		return err == nil
	}); err != nil {
		return err
	}
	for _, archive := range archives {
		body, err := os.ReadFile(archive)
		if err != nil {
			return err
		}
		path := nodeArchive(archive)
		if err := n.Write(path, string(body)); err != nil {
			return err
		}
		if _, err := n.Run("ctr", "-n", "k8s.io", "images", "import", path); err != nil {
			return err
		}
	}
	return n.await("containerd takes pods", func() bool {
		ctx, cancel := timeout()
		defer cancel()
		return n.client.Ready(ctx)
	})
}

// await waits for something on the node.
func (n *node) await(what string, cond func() bool) error {
	if !nstest.Poll(patience, cond) {
		return fmt.Errorf("%s: not within %v", what, patience)
	}
	return nil
}

// status is that of the daemon.
func (n *node) status() (api.Status, error) {
	ctx, cancel := timeout()
	defer cancel()
	return n.daemon.Status(ctx)
}

// worker is the process ID of the daemon that answers, 0 where none does.
func (n *node) worker() int {
	s, err := n.status()
	if err != nil {
		return 0
	}
	return s.PID
}

// end stops everything and wants nothing to be left of it.
func (c *rig) end(t *testing.T) {
	for _, n := range c.nodes {
		for _, err := range n.stopAll() {
			if err != nil {
				t.Error(err)
			}
		}
	}
	if err := c.fabric.Close(); err != nil {
		t.Error(err)
	}
	checkProcesses(t)
	checkCgroups(t)
}

// dump logs what everything on the nodes wrote.
func (c *rig) dump(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		for _, p := range append([]*cluster.Process{n.runtime, n.nsqueued}, n.others...) {
			if p != nil {
				t.Logf("%s:\n%s", p.Name(), tail(p.Log.String()))
			}
		}
	}
}

func tail(s string) string { return s[max(len(s)-100000, 0):] }
