// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
)

// profile says where a distribution of Kubernetes has its files.
type profile struct {
	name    string
	confDir string
	// binDirs are in the order of preference: the first that exists.
	binDirs []string
	// programs is where the distribution has its container runtime; others are in PATH.
	programs string
}

const k3s = "/var/lib/rancher/k3s"

// profiles returns them in the order of the search: beside the directories of a
// special distribution, the ordinary ones may exist unused.
func profiles() []profile {
	return []profile{
		{
			"k3s", k3s + "/agent/etc/cni/net.d",
			[]string{k3s + "/data/cni", k3s + "/data/current/bin"},
			k3s + "/data/current/bin",
		},
		{
			"microk8s", "/var/snap/microk8s/current/args/cni-network",
			[]string{"/var/snap/microk8s/current/opt/cni/bin"},
			"/snap/microk8s/current/bin",
		},
		{"kubeadm", "/etc/cni/net.d", []string{"/opt/cni/bin"}, ""},
		{"kind", "/etc/cni/net.d", []string{"/opt/cni/bin"}, ""},
	}
}

// findProfile returns the profile of a name, with its directories below root;
// for "auto" the first whose configurations exist.
func findProfile(root, name string) (profile, error) {
	names := []string{"auto"}
	for _, p := range profiles() {
		names = append(names, p.name)
		p.confDir = filepath.Join(root, p.confDir)
		for i := range p.binDirs {
			p.binDirs[i] = filepath.Join(root, p.binDirs[i])
		}
		if p.programs != "" {
			p.programs = filepath.Join(root, p.programs)
		}
		if name == p.name || name == "auto" && (isDir(p.confDir) || p.name == "kubeadm") {
			return p, nil
		}
	}
	return profile{}, usageErrorf("profile %q: want %s", name, strings.Join(names, ", "))
}

// binDir returns where the profile's plugins are.
func (p *profile) binDir() string {
	for _, dir := range p.binDirs {
		if isDir(dir) {
			return dir
		}
	}
	return p.binDirs[len(p.binDirs)-1]
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
