// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// The annotations that a pod may carry.
const (
	annotationPrefix = "nsqueue.io/"
	inspectName      = "inspect"
	policyName       = "failure-policy"
)

// parseArgs takes the pod's identity from CNI_ARGS ("A=B;C=D"). Runtimes put
// other things in there too, and none of it is worth a pod's start.
func parseArgs(args string) (pod api.Pod, warnings []string) {
	for pair := range strings.SplitSeq(args, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case !ok:
			warnings = append(warnings, fmt.Sprintf("CNI_ARGS: %.60q is no KEY=VALUE", pair))
		case key == "K8S_POD_NAMESPACE":
			pod.Namespace = value
		case key == "K8S_POD_NAME":
			pod.Name = value
		case key == "K8S_POD_UID":
			pod.UID = value
		}
	}
	return pod, warnings
}

// decision is how a pod is treated.
type decision struct {
	inspect  bool
	policy   api.Policy
	warnings []string
}

// decide joins the configuration with the pod's annotations. A pod may always
// raise: be inspected though its namespace is excluded, and fail closed. To ask
// for less than the configuration gives, the configuration must allow the
// annotation; one that is refused or makes no sense is a warning and changes
// nothing, because a pod's author cannot see the configuration.
func decide(c *config, namespace string) decision {
	d := decision{
		inspect: !slices.Contains(c.excludeNamespaces, namespace),
		policy:  c.policy,
	}
	d.apply(c, inspectName, "true", "false", d.inspect, func(raise bool) { d.inspect = raise })
	d.apply(c, policyName, string(api.Fail), string(api.Ignore), d.policy == api.Fail,
		func(raise bool) {
			d.policy = api.Ignore
			if raise {
				d.policy = api.Fail
			}
		})
	return d
}

// apply looks at one annotation. It has two values, one that raises and one
// that lowers; raised is what the configuration says.
func (d *decision) apply(
	c *config, name, raising, lowering string, raised bool, set func(raise bool),
) {
	value, ok := c.annotations[annotationPrefix+name]
	switch {
	case !ok:
	case value == raising:
		set(true)
	case value != lowering:
		d.warn("annotation %s%s: %.40q ignored: want %q or %q",
			annotationPrefix, name, value, raising, lowering)
	case !raised || slices.Contains(c.lowering, name):
		set(false)
	default:
		d.warn("annotation %s%s: %q refused: %q is not in the CNI configuration's %s",
			annotationPrefix, name, value, name, keyPodAnnotations)
	}
}

func (d *decision) warn(format string, args ...any) {
	d.warnings = append(d.warnings, fmt.Sprintf(format, args...))
}
