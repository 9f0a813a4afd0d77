// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serve returns a client of a server that answers by h.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, text := range map[string]string{"ca.crt": string(ca), "token": "secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(func(name string) string {
		return map[string]string{
			"KUBERNETES_SERVICE_HOST": at.Hostname(), "KUBERNETES_SERVICE_PORT": at.Port(),
		}[name]
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDaemonSet(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" ||
			r.URL.Path != "/apis/apps/v1/namespaces/a/daemonsets/b" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"metadata":{"generation":2,"name":"b"},"status":`+
			`{"observedGeneration":2,"desiredNumberScheduled":3,"numberReady":2}}`)
	})
	d, err := c.DaemonSet(t.Context(), "a", "b")
	if err != nil || d.Ready() || d.Status.DesiredNumberScheduled != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	if d.Status.NumberReady = 3; !d.Ready() {
		t.Error("not ready, with a ready pod on each node")
	}
	if d.Metadata.Generation = 3; d.Ready() {
		t.Error("ready, as one of before was")
	}
	if (&DaemonSet{}).Ready() {
		t.Error("ready before anybody has looked at it")
	}
	_, err = c.DaemonSet(t.Context(), "a", "c")
	if err == nil || !strings.Contains(err.Error(), "403 Forbidden: no reason given") {
		t.Error(err)
	}
}

// A list comes in parts.
func TestPods(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case q.Get("labelSelector") != "x=y":
			http.Error(w, `{"message":"no such label"}`, http.StatusNotFound)
		case q.Get("continue") == "":
			fmt.Fprint(w, `{"metadata":{"continue":"more"},"items":[{"spec":{"nodeName":"one"},`+
				`"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}`)
		default:
			fmt.Fprint(w, `{"items":[{"spec":{"nodeName":"two"}}]}`)
		}
	})
	all, err := c.Pods(t.Context(), "a", "x=y")
	if err != nil || len(all) != 2 || !all[0].Ready() || all[1].Ready() ||
		all[1].Spec.NodeName != "two" {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = c.Pods(t.Context(), "a", "x=z")
	if err == nil || !strings.Contains(err.Error(), "no such label") {
		t.Error(err)
	}
}

func TestNoPod(t *testing.T) {
	if _, err := New(func(string) string { return "" }, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "no pod") {
		t.Error(err)
	}
	if _, err := New(func(string) string { return "1" }, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "no credentials") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"items":[{"spec":{"nodeName":"one"},"status":{"conditions":[{"type":"Ready"}]}}]}`)
	f.Fuzz(func(_ *testing.T, text string) {
		var p pods
		_ = decode(strings.NewReader(text), &p)
		for i := range p.Items {
			p.Items[i].Ready()
		}
		var d DaemonSet
		_ = decode(strings.NewReader(text), &d)
		d.Ready()
	})
}
