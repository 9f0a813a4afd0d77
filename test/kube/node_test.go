// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
	"github.com/nsqueue/nsqueue/test/runtimes/cri"
)

// node is a machine of the cluster.
type node struct {
	*cluster.Node

	rig     *rig
	number  int
	version string // of its containerd
	client  *cri.Client
	daemon  *api.Client

	containerd, kubelet, proxy *cluster.Process
}

// oldContainerd is Debian's; the other node has the newer one.
const oldContainerd = "1.6.20"

func (n *node) isOld() bool { return n.version == oldContainerd }

func (n *node) address() string { return fmt.Sprintf("10.99.0.1%d", n.number) }

// cgroup is above everything that the node's pods have.
func (n *node) cgroup() string { return "/nsqueue-test-kube-" + n.name() }

func (n *node) name() string { return fmt.Sprintf("node%d", n.number) }

// boot makes the node of what is on its disk, and starts everything on it. It joins the
// cluster when it is ready.
func (n *node) boot(t *testing.T) error {
	t.Helper()
	config := cluster.NodeConfig{
		Name: n.name(), Alone: true,
		IPv4: netip.MustParsePrefix(n.address() + "/24"),
		IPv6: netip.MustParsePrefix(fmt.Sprintf("fd99::1%d/64", n.number)),
		Over: filepath.Join(n.rig.bin, "runtimes/debian/root"),
		Bind: []string{n.rig.bin, n.rig.kube, n.rig.work},
		Disk: []string{
			"/etc/cni", "/opt", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/log",
		},
	}
	if !n.isOld() {
		config.Path = []string{filepath.Join(n.rig.bin, "runtimes/bin")}
	}
	if err := makeCgroups(n.cgroup()); err != nil {
		return err
	}
	var err error
	if n.Node, err = n.rig.fabric.Start(config); err != nil {
		return err
	}
	n.daemon = api.NewClient(n.File(api.DefaultSocket))
	if n.client, err = cri.Dial(n.File("/run/containerd/containerd.sock")); err != nil {
		return err
	}
	if err := n.furnish(); err != nil {
		return err
	}
	for _, start := range []func(*testing.T) error{
		n.startContainerd, n.importImages, n.startKubelet, n.startProxy,
	} {
		if err := start(t); err != nil {
			return err
		}
	}
	return nil
}

// furnish writes the node's programs and settings.
func (n *node) furnish() error {
	if _, err := n.Run("ip", "route", "add", "default", "via", controlIP); err != nil {
		return err
	}
	for _, key := range []string{"all", "default", "eth0"} {
		err := nstest.Within(n.NetNS(), func() error {
			return nstest.Sysctl("net/ipv4/conf/"+key+"/rp_filter", "0")
		})
		if err != nil {
			return err
		}
	}
	programs, err := filepath.Glob(filepath.Join(n.rig.bin, "cni/[a-z]*"))
	if err != nil {
		return err
	}
	for _, p := range programs {
		if filepath.Base(p) == "flannel" { // comes with its pod
			continue
		}
		if err := n.Copy(p, filepath.Join("/opt/cni/bin", filepath.Base(p))); err != nil {
			return err
		}
	}
	if err := n.Copy(filepath.Join(n.rig.bin, "test/stuck"), stuck); err != nil {
		return err
	}
	if err := n.Copy(filepath.Join(n.rig.bin, "test/stamper"), stamper); err != nil {
		return err
	}
	if err := n.Write("/etc/containerd/config.toml", n.containerdConfig()); err != nil {
		return err
	}
	if err := n.Write("/etc/kubernetes/kubelet.yaml", n.kubeletConfig()); err != nil {
		return err
	}
	return n.Write("/etc/kubernetes/proxy.yaml", n.proxyConfig())
}

// stamper is where a node has the inspector that stamps datagrams, and stuck the one that
// is never ready.
const (
	stamper = "/opt/stamper/stamper"
	stuck   = "/opt/stamper/stuck"
)

// containerdConfig is for a machine without CAP_SYS_RESOURCE and with cgroups of
// version 1.
func (n *node) containerdConfig() string {
	if n.isOld() {
		return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
`, podImage)
	}
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %q
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
`, podImage)
}

func (n *node) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %s}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %s
clusterDomain: cluster.local
clusterDNS: [%s]
resolvConf: /dev/null
failSwapOn: false
oomScoreAdj: 0
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 50Mi}
syncFrequency: 10s
nodeStatusReportFrequency: 1m
`, n.rig.ca.file("ca.crt"), n.cgroup(), dnsService)
}

func (n *node) proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: %s
hostnameOverride: %s
oomScoreAdj: 0
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, podCIDR, n.name(), n.rig.ca.file("proxy.kubeconfig"))
}

func (n *node) startContainerd(t *testing.T) error {
	t.Helper()
	var err error
	n.containerd, err = n.Launch(nil, "containerd", "--config", "/etc/containerd/config.toml")
	if err != nil {
		return err
	}
	return n.await("containerd answers", func() bool {
		_, err := n.Run("ctr", "version")
		return err == nil || n.containerd.Ended()
	})
}

// importImages gives the runtime what no registry has.
func (n *node) importImages(t *testing.T) error {
	t.Helper()
	for _, archive := range n.rig.archives {
		if _, err := n.Run("ctr", "-n", "k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	for _, tag := range imageTags() {
		_, err := n.Run("ctr", "-n", "k8s.io", "images", "tag", "--force", n.rig.image,
			imageName+":"+tag)
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *node) startKubelet(t *testing.T) error {
	t.Helper()
	var err error
	n.kubelet, err = n.Launch(nil, filepath.Join(n.rig.kube, "kubelet"),
		"--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig="+n.rig.ca.file(n.name()+".kubeconfig"),
		"--node-ip="+n.address(), "--hostname-override="+n.name(), "--v=2")
	if err != nil {
		return err
	}
	// Before that, it exits where the runtime does not answer.
	return n.await("the kubelet is healthy", func() bool {
		_, err := n.Run("busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:10248/healthz")
		return err == nil || n.kubelet.Ended()
	})
}

func (n *node) startProxy(*testing.T) error {
	var err error
	n.proxy, err = n.Launch(nil, filepath.Join(n.rig.kube, "kube-proxy"),
		"--config=/etc/kubernetes/proxy.yaml")
	return err
}

// await waits for something on the node.
func (n *node) await(what string, cond func() bool) error {
	if !nstest.Poll(patience, cond) {
		return fmt.Errorf("%s: %s: not within %v", n.name(), what, patience)
	}
	return nil
}

// cut ends the node at once, as if its power had failed.
func (n *node) cut() error {
	_ = n.client.Close()
	return errors.Join(n.Cut(), removeCgroups(n.cgroup()))
}

// makeCgroups makes a control group in each hierarchy, into which processes can be put.
func makeCgroups(name string) error {
	if err := removeCgroups(name); err != nil {
		return err
	}
	tops, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		return err
	}
	for _, top := range tops {
		if strings.HasSuffix(top, "/unified") {
			continue
		}
		if err := os.MkdirAll(top+name, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			all, err := os.ReadFile(filepath.Join(top, file))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(top+name, file), all, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes a control group with those below it. The kernel may take a
// moment to let go of processes that have been killed.
func removeCgroups(name string) error {
	var err error
	nstest.Poll(time.Minute, func() bool {
		err = tryRemoveCgroups(name)
		return err == nil
	})
	return err
}

func tryRemoveCgroups(name string) error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*" + name)
	if err != nil {
		return err
	}
	for _, top := range tops {
		var all []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(all) {
			if err := os.Remove(dir); err != nil {
				return err
			}
		}
	}
	return nil
}
