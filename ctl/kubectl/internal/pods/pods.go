// SPDX-License-Identifier: Apache-2.0

// Package pods finds the pods of nsqueue in a cluster, and runs programs in them through the
// API server. It needs the rights that deploy/kubernetes/kubectl-nsqueue.yaml has.
package pods

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const (
	// Selector is what the chart's pods are found by.
	Selector = "app.kubernetes.io/name=nsqueue"
	// DefaultNamespace is where the documentation installs nsqueue.
	DefaultNamespace = "nsqueue-system"
	// container is the one that runs the daemon.
	container = "nsqueued"
	// page is how many pods an answer has.
	page = 500
)

// Pod is the pod of nsqueue on a node.
type Pod struct {
	Node, Namespace, Name string
	// Problem is why nothing can be run in it, else empty.
	Problem string
}

// Cluster is one that nsqueue runs in. It is safe for concurrent use.
type Cluster struct {
	core     typedcorev1.CoreV1Interface
	config   *rest.Config
	selector string
}

// Open returns the cluster of a configuration. It asks nothing.
func Open(config *rest.Config, selector string) (*Cluster, error) {
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("use the configuration of kubectl: %w", err)
	}
	return &Cluster{core: core, config: config, selector: selector}, nil
}

// Find returns one pod for each node that has some, in the order of the nodes. The
// namespaces are tried in this order until one has pods; an empty name is all namespaces.
// One that the user may not look at is left out if there is another one.
func (c *Cluster) Find(ctx context.Context, namespaces ...string) ([]Pod, error) {
	var refused error
	for _, namespace := range namespaces {
		list, err := c.list(ctx, namespace)
		if apierrors.IsForbidden(err) {
			refused = cmp.Or(refused, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the pods of nsqueue: %w", err)
		}
		if found := onePerNode(list); len(found) > 0 {
			return found, nil
		}
	}
	if refused != nil {
		return nil, fmt.Errorf("list the pods of nsqueue: %w", refused)
	}
	return nil, nil
}

// list returns the pods that run the daemon.
func (c *Cluster) list(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	var all []corev1.Pod
	options := metav1.ListOptions{LabelSelector: c.selector, Limit: page}
	for {
		some, err := c.core.Pods(namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range some.Items {
			if runsDaemon(&some.Items[i]) {
				all = append(all, some.Items[i])
			}
		}
		if some.Continue == "" {
			return all, nil
		}
		options.Continue = some.Continue
	}
}

func runsDaemon(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && slices.ContainsFunc(p.Spec.Containers,
		func(c corev1.Container) bool { return c.Name == container })
}

// onePerNode chooses among the pods of each node. There are two while one takes over from
// the other, and either leads to the node's daemon.
func onePerNode(list []corev1.Pod) []Pod {
	best := map[string]*corev1.Pod{}
	for i := range list {
		p := &list[i]
		if old := best[p.Spec.NodeName]; old == nil || better(p, old) {
			best[p.Spec.NodeName] = p
		}
	}
	var found []Pod
	for node, p := range best {
		found = append(found, Pod{node, p.Namespace, p.Name, problem(p)})
	}
	slices.SortFunc(found, func(a, b Pod) int { return cmp.Compare(a.Node, b.Node) })
	return found
}

// better reports whether a is the one to ask: one that runs, is ready, stays, is newer.
func better(a, b *corev1.Pod) bool {
	for _, is := range []func(*corev1.Pod) bool{
		func(p *corev1.Pod) bool { return problem(p) == "" },
		ready,
		func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil },
	} {
		if is(a) != is(b) {
			return is(a)
		}
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// problem says why nothing can be run in the pod. A pod that is not ready may be asked: a
// daemon that has just started is not, nor is the pod of a node that is down, which the
// cluster believes to run.
func problem(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodRunning {
		return ""
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return fmt.Sprintf("pod %s does not run: %s: %s", p.Name, s.Name, w.Reason)
		}
	}
	return fmt.Sprintf("pod %s does not run: %s", p.Name, cmp.Or(p.Status.Phase, "Unknown"))
}
