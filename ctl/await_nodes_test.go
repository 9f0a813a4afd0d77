// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/ctl/internal/cluster"
)

// inCluster runs a command line in a pod whose API server answers by h.
func inCluster(t *testing.T, h http.HandlerFunc, args ...string) outcome {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	root := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.MkdirAll(filepath.Join(root, cluster.Credentials), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ca.crt": string(ca), "token": "secret"} {
		write(t, filepath.Join(root, cluster.Credentials, name), text)
	}
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	var o outcome
	var out, errs strings.Builder
	o.status = execute(t.Context(), &IOStreams{
		out: &out, err: &errs, now: testNow, progressAfter: time.Minute, root: root,
		getenv: func(name string) string {
			return map[string]string{
				"KUBERNETES_SERVICE_HOST": at.Hostname(), "KUBERNETES_SERVICE_PORT": at.Port(),
			}[name]
		},
	}, args)
	o.stdout, o.err = out.String(), errs.String()
	return o
}

func TestAwaitNodes(t *testing.T) {
	var asked atomic.Int32
	o := inCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"metadata":{"generation":1},"status":{"observedGeneration":1,`+
			`"desiredNumberScheduled":2,"numberReady":%d}}`, min(2, asked.Add(1)))
	}, "await-nodes", "nsqueue-cleanup", "--namespace", "a")
	o.want(t, 0, "2 of 2 nodes ready\n", "waiting for the nodes: 1 of 2 nodes ready\n")
}

// When the time is over the nodes that are missing are named, and that is no error.
func TestAwaitNodesInVain(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pods") {
			fmt.Fprint(w, `{"items":[{"spec":{"nodeName":"two"}},{"spec":{"nodeName":"one"},`+
				`"status":{"conditions":[{"type":"Ready","status":"True"}]}},{"spec":{}}]}`)
			return
		}
		fmt.Fprint(w, `{"status":{"observedGeneration":1,"desiredNumberScheduled":2,"numberReady":1}}`)
	}
	args := []string{"await-nodes", "nsqueue-cleanup", "--timeout", "50ms"}
	o := inCluster(t, answer, args...)
	if o.status != 0 || o.stdout != "1 of 2 nodes ready\n" || !strings.Contains(o.err, "not reached: two\n") {
		t.Errorf("%+v", o)
	}
	o = inCluster(t, answer, append(args, "--strict", "-o", "json")...)
	if o.status != 1 || !strings.Contains(o.stdout, `"missing": [`) || !strings.Contains(o.err, "not reached: two") {
		t.Errorf("strict: %+v", o)
	}
}

// An API server that does not answer keeps nobody from ending.
func TestAwaitNodesUnknown(t *testing.T) {
	o := inCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"message":"not yours"}`, http.StatusForbidden)
	}, "await-nodes", "nsqueue-cleanup", "--timeout", "50ms")
	if o.status != 0 || !strings.Contains(o.err, "it is not known which nodes were not reached") ||
		!strings.Contains(o.err, "not yours") {
		t.Errorf("%+v", o)
	}
	o = nsqueuectl(t.Context(), "", "await-nodes", "x")
	if o.status != 1 || !strings.Contains(o.err, "no pod of a cluster") {
		t.Errorf("outside: %+v", o)
	}
}

// A DaemonSet that its controller has not seen so far has no nodes, and is not ready.
func TestAwaitNodesUnseen(t *testing.T) {
	o := inCluster(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/pods") {
			fmt.Fprint(w, `{"items":[]}`)
			return
		}
		fmt.Fprint(w, `{"metadata":{"generation":1},"status":{}}`)
	}, "await-nodes", "nsqueue-cleanup", "--timeout", "50ms", "--strict")
	if o.status != 1 || !strings.Contains(o.err, "it is not known which nodes were not reached") {
		t.Errorf("%+v", o)
	}
}
