// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindProfile(t *testing.T) {
	root := t.TempDir()
	look := func(name, wantName, wantConf, wantBin string) {
		t.Helper()
		p, err := findProfile(root, name)
		if err != nil || p.name != wantName || p.confDir != root+wantConf || p.binDir() != root+wantBin {
			t.Errorf("%s: %+v, plugins in %s, %v", name, p, p.binDir(), err)
		}
	}
	mkdir := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	look("auto", "kubeadm", "/etc/cni/net.d", "/opt/cni/bin")
	mkdir("/etc/cni/net.d")
	look("auto", "kubeadm", "/etc/cni/net.d", "/opt/cni/bin")
	look("kind", "kind", "/etc/cni/net.d", "/opt/cni/bin")
	const microk8s = "/var/snap/microk8s/current"
	mkdir(microk8s + "/args/cni-network")
	look("auto", "microk8s", microk8s+"/args/cni-network", microk8s+"/opt/cni/bin")
	mkdir(k3s + "/agent/etc/cni/net.d")
	look("auto", "k3s", k3s+"/agent/etc/cni/net.d", k3s+"/data/current/bin")
	mkdir(k3s + "/data/cni")
	look("auto", "k3s", k3s+"/agent/etc/cni/net.d", k3s+"/data/cni")
	look("kubeadm", "kubeadm", "/etc/cni/net.d", "/opt/cni/bin")
}

func TestParseRelease(t *testing.T) {
	for text, want := range map[string]struct {
		release
		ok bool
	}{
		"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1": {release{1, 6, 20}, true},
		"containerd github.com/containerd/containerd/v2 v2.1.0-k3s1 abc":         {release{2, 1, 0}, true},
		"containerd containerd.io v2.1.0-rc.1 abc":                               {release{2, 1, 0}, false},
		"crio version 1.33.0\nVersion: 1.33.0\nGoVersion: go1.24.1\n":            {release{1, 33, 0}, true},
		"containerd github.com/containerd/containerd/v2 2.x":                     {release{}, false},
		"":                           {release{}, false},
		"9999999999999999999999.1.1": {release{}, false},
	} {
		if got, ok := parseRelease(text); got != want.release || ok != want.ok {
			t.Errorf("%q: %v, %v, want %v", text, got, ok, want)
		}
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add("containerd containerd.io v2.1.0-rc.1 abc")
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := parseRelease(text); ok && (r.before(release{}) || r.before(r)) {
			t.Errorf("%q: %v", text, r)
		}
	})
}
