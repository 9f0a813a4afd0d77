// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// client asks the API server. It is for what the test looks at often: a kubectl costs
// this machine half a second.
type client struct{ http *http.Client }

// get reads an object into v, in which a pointer to something is nil where it is not.
func (c *client) get(t *testing.T, path string, v any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(lasting(t), http.MethodGet, apiServer+path, nil)
	nstest.Must(t, err)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return json.Unmarshal(body, v)
}

// Of an object, what the tests look at.
type (
	meta struct {
		Name, Namespace, UID string
		Labels               map[string]string
		CreationTimestamp    time.Time
		DeletionTimestamp    *time.Time
	}
	condition struct {
		Type, Status, Reason, Message string
		LastTransitionTime            time.Time
	}
	state struct {
		Waiting, Terminated *struct{ Reason, Message string }
	}
	containerStatus struct {
		Name         string
		Ready        bool
		RestartCount int
		State        state
		LastState    state
	}
	pod struct {
		Metadata meta
		Spec     struct{ NodeName string }
		Status   struct {
			Phase, PodIP          string
			Conditions            []condition
			ContainerStatuses     []containerStatus
			InitContainerStatuses []containerStatus
		}
	}
	apiNode struct {
		Metadata meta
		Status   struct{ Conditions []condition }
	}
)

func has(conditions []condition, kind string) bool {
	return slices.ContainsFunc(conditions, func(c condition) bool {
		return c.Type == kind && c.Status == "True"
	})
}

// untilReady is how long a pod took that is ready, by the cluster's clock: in seconds.
func (p pod) untilReady() time.Duration {
	i := slices.IndexFunc(p.Status.Conditions, func(c condition) bool { return c.Type == "Ready" })
	return p.Status.Conditions[i].LastTransitionTime.Sub(p.Metadata.CreationTimestamp)
}

func (p pod) ready() bool { return has(p.Status.Conditions, "Ready") }

// waiting is why containers of the pod do not run.
func (p pod) waiting() string {
	var all []string
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		for _, w := range []*struct{ Reason, Message string }{
			s.State.Waiting, s.State.Terminated, s.LastState.Terminated,
		} {
			if w != nil {
				all = append(all, strings.TrimSpace(s.Name+": "+w.Reason+" "+w.Message))
			}
		}
	}
	return strings.Join(all, "; ")
}

// pods returns those of a namespace that have the labels, such as app=x.
func (r *rig) pods(t *testing.T, namespace, labels string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	err := r.api.get(t, "/api/v1/namespaces/"+namespace+"/pods?labelSelector="+labels, &list)
	if err != nil {
		t.Logf("pods of %s: %v", namespace, err)
	}
	return list.Items
}

// awaitPods waits until there are so many pods, all of them ready and none that ends.
func (r *rig) awaitPods(t *testing.T, namespace, labels string, count int) []pod {
	t.Helper()
	var pods []pod
	ok := nstest.Poll(patience, func() bool {
		pods = r.pods(t, namespace, labels)
		return len(pods) == count && !slices.ContainsFunc(pods, func(p pod) bool {
			return !p.ready() || p.Metadata.DeletionTimestamp != nil
		})
	})
	if !ok {
		for _, p := range pods {
			t.Logf("%s on %s: %s, ready %v: %s", p.Metadata.Name, p.Spec.NodeName,
				p.Status.Phase, p.ready(), p.waiting())
		}
		t.Fatalf("%d pods with %s in %s: not within %v", count, labels, namespace, patience)
	}
	return pods
}
