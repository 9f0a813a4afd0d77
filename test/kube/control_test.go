// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/nsqueue/nsqueue/test/nstest"
	"github.com/nsqueue/nsqueue/test/runtimes/cluster"
)

const (
	controlIP = "10.99.0.1"
	apiServer = "https://" + controlIP + ":6443"
	podCIDR   = "10.244.0.0/16"
	// serviceCIDR has apiService and dnsService.
	serviceCIDR = "10.96.0.0/16"
	apiService  = "10.96.0.1"
	dnsService  = "10.96.0.10"
)

// startControlPlane runs what is on no node, until the API server answers.
func (r *rig) startControlPlane(t *testing.T) {
	t.Helper()
	r.ca = newAuthority(t, r.work)
	r.ca.issue(t, "apiserver", "kube-apiserver", "", controlIP, apiService, "127.0.0.1",
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
	r.ca.issue(t, "kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
	r.admin = r.ca.kubeconfig(t, "admin", "admin", "system:masters")
	r.api = &client{&http.Client{Transport: &http.Transport{
		TLSClientConfig: r.ca.tls(t, "admin"),
	}}}
	t.Cleanup(r.api.http.CloseIdleConnections)

	etcd := filepath.Join(r.bin, "runtimes/debian/root/usr/bin/etcd")
	r.launch(t, etcd, "--data-dir", filepath.Join(r.work, "etcd"), "--log-level", "error",
		"--listen-client-urls", "http://127.0.0.1:2379", "--unsafe-no-fsync",
		"--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380")
	r.launch(t, filepath.Join(r.kube, "kube-apiserver"), r.apiServerFlags()...)
	nstest.Eventually(t, patience, "the API server is ready", func() bool {
		resp, err := r.api.http.Get(apiServer + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	r.progress(t, "the API server is ready")
	r.launch(t, filepath.Join(r.kube, "kube-controller-manager"),
		"--kubeconfig", r.ca.kubeconfig(t, "controller-manager", "system:kube-controller-manager", ""),
		"--service-account-private-key-file", r.ca.file("sa.key"),
		"--root-ca-file", r.ca.file("ca.crt"), "--cluster-cidr", podCIDR,
		"--allocate-node-cidrs=true", "--use-service-account-credentials=true",
		"--leader-elect=false", "--service-cluster-ip-range", serviceCIDR)
	r.launch(t, filepath.Join(r.kube, "kube-scheduler"), "--leader-elect=false",
		"--kubeconfig", r.ca.kubeconfig(t, "scheduler", "system:kube-scheduler", ""))
}

func (r *rig) apiServerFlags() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + controlIP,
		"--service-cluster-ip-range=" + serviceCIDR, "--allow-privileged=true",
		"--client-ca-file=" + r.ca.file("ca.crt"),
		"--tls-cert-file=" + r.ca.file("apiserver.crt"),
		"--tls-private-key-file=" + r.ca.file("apiserver.key"),
		"--kubelet-client-certificate=" + r.ca.file("kubelet-client.crt"),
		"--kubelet-client-key=" + r.ca.file("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + r.ca.file("sa.key"),
		"--service-account-signing-key-file=" + r.ca.file("sa.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
	}
}

// launch starts a program of the control plane. It ends with the test's process at
// the latest.
func (r *rig) launch(t *testing.T, name string, args ...string) {
	t.Helper()
	p, err := cluster.Launch(name, args...)
	nstest.Must(t, err)
	r.control = append(r.control, p)
}

// progress says how far the test is.
func (r *rig) progress(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("@@ %s", fmt.Sprintf(format, args...))
}
