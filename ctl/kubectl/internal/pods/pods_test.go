// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"sigs.k8s.io/yaml"
)

// server is an API server with some pods.
type server struct {
	pods      []corev1.Pod
	forbidden []string // namespaces, an empty name for all
	status    int      // of a program that is run
	old       bool     // it knows no WebSocket

	asked []string // paths with their queries
}

func (s *server) open(t *testing.T) *Cluster {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	c, err := Open(&rest.Config{Host: h.URL}, Selector)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	switch {
	case strings.HasSuffix(r.URL.Path, "/exec"):
		s.exec(w, r)
	case strings.HasSuffix(r.URL.Path, "/portforward"):
		s.forward(w, r)
	default:
		s.list(w, r)
	}
}

// list answers in pages of two pods.
func (s *server) list(w http.ResponseWriter, r *http.Request) {
	namespace := ""
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 5 {
		namespace = parts[4]
	}
	w.Header().Set("Content-Type", "application/json")
	if slices.Contains(s.forbidden, namespace) {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
			Message: "pods is forbidden",
		})
		return
	}
	if got := r.URL.Query().Get("labelSelector"); got != Selector {
		http.Error(w, "selector "+got, http.StatusBadRequest)
		return
	}
	var list corev1.PodList
	list.APIVersion, list.Kind = "v1", "PodList"
	for _, p := range s.pods {
		if namespace == "" || p.Namespace == namespace {
			list.Items = append(list.Items, p)
		}
	}
	if r.URL.Query().Get("continue") == "" && len(list.Items) > 2 {
		list.Items, list.Continue = list.Items[:2], "more"
	} else if len(list.Items) > 2 {
		list.Items = list.Items[2:]
	}
	_ = json.NewEncoder(w).Encode(list)
}

func podOn(node, name string, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{}
	p.Name, p.Namespace = name, "nsqueue-system"
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Name: "nsqueued"}, {Name: "cni"}}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, f := range change {
		f(&p)
	}
	return p
}

func unready(p *corev1.Pod)   { p.Status.Conditions = nil }
func leaving(p *corev1.Pod)   { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(9, 0)} }
func younger(p *corev1.Pod)   { p.CreationTimestamp = metav1.Time{Time: time.Unix(9, 0)} }
func pending(p *corev1.Pod)   { p.Status.Phase = corev1.PodPending }
func foreign(p *corev1.Pod)   { p.Spec.Containers[0].Name = "other" }
func elsewhere(p *corev1.Pod) { p.Namespace = "other" }
func unpulled(p *corev1.Pod) {
	pending(p)
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: "check", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"},
		},
	}}
}

// Of each node there is one pod: the best to be asked.
func TestFind(t *testing.T) {
	s := &server{pods: []corev1.Pod{
		podOn("n3", "c-unready", unready, younger), podOn("n3", "c"),
		podOn("n1", "a-leaving", leaving, younger), podOn("n1", "a"),
		podOn("n2", "b-pending", pending, younger), podOn("n2", "b-unready", unready, leaving),
		podOn("n4", "d"), podOn("n4", "d-younger", younger),
		podOn("n5", "e", unpulled), podOn("n6", "f", pending), podOn("n7", "g", foreign),
		podOn("", "nowhere", pending),
	}}
	got, err := s.open(t).Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	const ns = "nsqueue-system"
	want := []Pod{
		{"n1", ns, "a", ""},
		{"n2", ns, "b-unready", ""},
		{"n3", ns, "c", ""},
		{"n4", ns, "d-younger", ""},
		{"n5", ns, "e", "pod e does not run: check: ImagePullBackOff"},
		{"n6", ns, "f", "pod f does not run: Pending"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Namespaces are tried until one has pods, and those that are forbidden are left out.
func TestNamespaces(t *testing.T) {
	s := &server{
		pods: []corev1.Pod{podOn("n1", "a", elsewhere)}, forbidden: []string{"", "default"},
	}
	c := s.open(t)
	got, err := c.Find(t.Context(), "", "default", "empty", "other")
	if err != nil || len(got) != 1 || got[0].Namespace != "other" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.Find(t.Context(), "", "empty"); err == nil || !strings.Contains(err.Error(), "pods is forbidden") {
		t.Errorf("%v", err)
	}
	if got, err := c.Find(t.Context(), "empty"); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// exec answers as an API server does: by the newest protocol that it knows.
func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out := fmt.Sprintf("%s %q", q.Get("container"), q["command"])
	failure := &metav1.Status{Status: metav1.StatusSuccess}
	if s.status != 0 {
		failure = &metav1.Status{
			Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: "it failed",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
				{Type: "ExitCode", Message: fmt.Sprint(s.status)},
			}},
		}
	}
	state, _ := json.Marshal(failure)
	switch {
	case !websocket.IsWebSocketUpgrade(r):
		s.spdy(w, r, out, state)
	case s.old:
		http.Error(w, "unable to upgrade", http.StatusBadRequest)
	default:
		u := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
		conn, err := u.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for channel, text := range map[byte]string{1: out, 2: "said"} {
			_ = conn.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, text...))
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, append([]byte{3}, state...))
		_ = conn.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Minute))
	}
}

// spdy answers by streams, which the client opens.
func (s *server) spdy(w http.ResponseWriter, r *http.Request, out string, state []byte) {
	streams := make(chan httpstream.Stream, 4)
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return
	}
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r,
		func(stream httpstream.Stream, _ <-chan struct{}) error {
			streams <- stream
			return nil
		})
	if conn == nil {
		return
	}
	defer conn.Close()
	texts := map[string][]byte{
		"stdin": nil, "stdout": []byte(out), "stderr": []byte("said"), "error": state,
	}
	for range texts {
		stream := <-streams
		if text := texts[stream.Headers().Get(corev1.StreamType)]; text != nil {
			_, _ = stream.Write(text)
		}
		_ = stream.Close()
	}
	<-conn.CloseChan()
}

func TestExec(t *testing.T) {
	for _, old := range []bool{false, true} {
		s := &server{old: old}
		c := s.open(t)
		p := Pod{Namespace: "ns", Name: "a"}
		for _, status := range []int{0, 3} {
			s.status = status
			var out, errs bytes.Buffer
			err := c.Exec(t.Context(), p, []string{"list", "-o", "json"}, &out, &errs)
			exit, _ := errors.AsType[*ExitError](err)
			if status == 0 && err != nil || status != 0 && (exit == nil || exit.Status != status) {
				t.Errorf("old %v: %v, want status %d", old, err, status)
			}
			const want = `nsqueued ["/usr/local/bin/nsqueuectl" "list" "-o" "json"]`
			if out.String() != want || errs.String() != "said" {
				t.Errorf("old %v: %q %q", old, out.String(), errs.String())
			}
		}
		want := "GET /api/v1/namespaces/ns/pods/a/exec"
		if s.asked[0] != want {
			t.Errorf("asked %q, want %q", s.asked[0], want)
		}
		if old && s.asked[1] != "POST"+want[3:] {
			t.Errorf("asked %q by the old way", s.asked)
		}
	}
}

// forward leads each connection to what says its port.
func (s *server) forward(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) {
		http.Error(w, "unable to upgrade", http.StatusBadRequest)
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 2)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r,
		func(stream httpstream.Stream, _ <-chan struct{}) error {
			streams <- stream
			return nil
		})
	if conn == nil {
		return
	}
	defer conn.Close()
	for range 2 {
		select {
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeData {
				_, _ = io.WriteString(stream, "port "+stream.Headers().Get(corev1.PortHeader))
			}
			_ = stream.Close()
		case <-conn.CloseChan():
			return
		}
	}
	<-conn.CloseChan()
}

func TestForward(t *testing.T) {
	c := (&server{}).open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := c.Forward(ctx, Pod{Namespace: "ns", Name: "a"}, 0, 4711, func(port uint16) error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		defer conn.Close()
		said, err := io.ReadAll(conn)
		if err != nil || string(said) != "port 4711" {
			t.Errorf("%q, %v", said, err)
		}
		cancel()
		return nil
	})
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
}

// The role that is shipped allows what this package does, and nothing else.
func TestRole(t *testing.T) {
	b, err := os.ReadFile("../../../../deploy/kubernetes/kubectl-nsqueue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	kinds := map[string]int{}
	for doc := range strings.SplitSeq(string(b), "\n---\n") {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatal(err)
		}
		kinds[kind.APIVersion+" "+kind.Kind]++
		switch kind.Kind {
		case "Role":
			var role rbacv1.Role
			if err := yaml.UnmarshalStrict([]byte(doc), &role); err != nil {
				t.Fatal(err)
			}
			for _, rule := range role.Rules {
				for _, resource := range rule.Resources {
					got[strings.Join(rule.APIGroups, ",")+"/"+resource] = rule.Verbs
				}
			}
			if role.Namespace != DefaultNamespace {
				t.Errorf("namespace %q", role.Namespace)
			}
		case "RoleBinding":
			var binding rbacv1.RoleBinding
			if err := yaml.UnmarshalStrict([]byte(doc), &binding); err != nil {
				t.Fatal(err)
			}
			if binding.RoleRef.Kind != "Role" || binding.RoleRef.Name == "" || len(binding.Subjects) != 1 {
				t.Errorf("%+v", binding)
			}
		}
	}
	want := map[string][]string{
		"/pods": {"list"}, "/pods/exec": {"create", "get"}, "/pods/portforward": {"create", "get"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
	const rbac = "rbac.authorization.k8s.io/v1 "
	if diff := cmp.Diff(map[string]int{rbac + "Role": 1, rbac + "RoleBinding": 1}, kinds); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}
