// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/test/chart/render"
)

const madeFrom = "# Made of deploy/charts/nsqueue by `make docs`: edit the chart.\n"

const licence = "# SPDX-License-Identifier: Apache-2.0\n"

const installHeader = licence + madeFrom + `#
# nsqueue for all nodes of a cluster with Kubernetes 1.30 or newer, with the chart's defaults:
#
#   kubectl apply -f nsqueue.yaml
#
# kustomization.yaml beside it is a base of kustomize, and components/ has changes for it.
# docs/kubernetes.md says how to upgrade it, and how to remove it: not by deleting this.

---
apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
  labels:
    app.kubernetes.io/name: nsqueue
    # The pods look after the node.
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: privileged
    pod-security.kubernetes.io/warn: privileged
`

const cleanupHeader = licence + madeFrom + `#
# Takes nsqueue from each node of a cluster, before nsqueue.yaml is deleted:
#
#   kubectl apply -f nsqueue-cleanup.yaml
#   kubectl -n %[1]s rollout status daemonset/nsqueue-cleanup
#
# docs/kubernetes.md has the other steps.

`

// Component is a change of the base for kustomize.
type Component struct {
	Name, Values string
	// What says what it does.
	What string
}

// Components returns all of them. They can be combined.
func Components() []Component {
	return []Component{
		{
			"fail", "failurePolicy: Fail\n",
			"Failure policy Fail: pods that cannot be inspected do not start, and their packets\n" +
				"# are dropped.",
		},
		{
			"k3s", "host:\n" +
				"  cniConfDir: /var/lib/rancher/k3s/agent/etc/cni/net.d\n" +
				"  cniBinDir: /var/lib/rancher/k3s/data/cni\n",
			"The directories of k3s.",
		},
		{
			"metrics", "metrics:\n" +
				"  enabled: true\n" +
				"  serviceMonitor: {enabled: true}\n" +
				"  prometheusRule: {enabled: true}\n" +
				"  dashboard: {enabled: true}\n",
			"Metrics, with the objects of the Prometheus operator, which has to be there.",
		},
	}
}

func manifests(chart *render.Chart) (map[string][]byte, error) {
	base, err := installed(chart, "")
	if err != nil {
		return nil, err
	}
	namespace := Static().Namespace
	files := map[string][]byte{
		Manifest + "/nsqueue.yaml": []byte(
			fmt.Sprintf(installHeader, namespace) + join(base, stays)),
		Manifest + "/uninstall/nsqueue-cleanup.yaml": []byte(
			fmt.Sprintf(cleanupHeader, namespace) + join(base, Cleans)),
	}
	for _, c := range Components() {
		changed, err := installed(chart, c.Values)
		if err != nil {
			return nil, err
		}
		if err := c.add(files, base, changed); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// installed returns the objects of the release that kubectl applies: those that stay, and
// the one that cleans the nodes.
func installed(chart *render.Chart, values string) ([]render.Document, error) {
	r := Static()
	r.Values = values
	all, _, err := chart.Render(&r)
	all = slices.DeleteFunc(all, func(d render.Document) bool { return !stays(&d) && !Cleans(&d) })
	for i := range all {
		WithoutHelm(&all[i])
	}
	return all, err
}

func stays(d *render.Document) bool { return d.Hook() == "" && !Cleans(d) }

// Cleans reports whether an object is the one that cleans the nodes.
func Cleans(d *render.Document) bool {
	return d.Kind() == "DaemonSet" && strings.HasSuffix(d.Name(), "-cleanup")
}

// helms are lines about helm, which has no part in it.
var helms = regexp.MustCompile(`(?m)^ +annotations:\n( +helm\.sh/hook.*\n)+|` +
	`^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

// WithoutHelm removes what says that helm has made the object, or runs it.
func WithoutHelm(d *render.Document) {
	d.Text = helms.ReplaceAllString(d.Text, "")
	meta, _ := d.Object["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	if d.Hook() != "" {
		delete(meta, "annotations")
	}
}

// join returns the objects that are wanted, as one text.
func join(all []render.Document, want func(*render.Document) bool) string {
	var b strings.Builder
	for i := range all {
		if want(&all[i]) {
			b.WriteString("---\n" + all[i].Text)
		}
	}
	return b.String()
}
