// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// authority signs the cluster's certificates. What it makes is in its folder.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// newAuthority makes an authority, ca.crt, and the key by which service accounts are
// known, sa.key.
func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	a.key = newKey(t)
	template := certificate(t, pkix.Name{CommonName: "cluster"})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	nstest.Must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	nstest.Must(t, err)
	a.write(t, "ca.crt", "CERTIFICATE", der)
	a.writeKey(t, "sa.key", newKey(t))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nstest.Must(t, err)
	return key
}

func certificate(t *testing.T, of pkix.Name) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	nstest.Must(t, err)
	return &x509.Certificate{
		SerialNumber: serial, Subject: of,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{
			x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth,
		},
	}
}

// issue makes NAME.crt and NAME.key for a user of a group, or for a server at hosts.
func (a *authority) issue(t *testing.T, name, user, group string, hosts ...string) {
	t.Helper()
	template := certificate(t, pkix.Name{CommonName: user})
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	nstest.Must(t, err)
	a.write(t, name+".crt", "CERTIFICATE", der)
	a.writeKey(t, name+".key", key)
}

func (a *authority) writeKey(t *testing.T, file string, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	nstest.Must(t, err)
	a.write(t, file, "EC PRIVATE KEY", der)
}

func (a *authority) write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	nstest.Must(t, os.WriteFile(a.file(file), text, 0o600))
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// kubeconfig makes NAME.kubeconfig for a user of a group, and returns where it is.
func (a *authority) kubeconfig(t *testing.T, name, user, group string) string {
	t.Helper()
	a.issue(t, name, user, group)
	type object = map[string]any
	text, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{
			"server": apiServer, "certificate-authority": a.file("ca.crt"),
		}}},
		"users": []object{{"name": "test", "user": object{
			"client-certificate": a.file(name + ".crt"), "client-key": a.file(name + ".key"),
		}}},
		"contexts": []object{{"name": "test", "context": object{
			"cluster": "test", "user": "test",
		}}},
	})
	nstest.Must(t, err)
	nstest.Must(t, os.WriteFile(a.file(name+".kubeconfig"), text, 0o600))
	return a.file(name + ".kubeconfig")
}

// tls is how a user of the authority speaks to the API server.
func (a *authority) tls(t *testing.T, name string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.file(name+".crt"), a.file(name+".key"))
	nstest.Must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
}
