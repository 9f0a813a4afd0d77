// SPDX-License-Identifier: Apache-2.0

// Package cnipod reads what a CNI call says of its pod: who it is, and how it
// is to be treated. The plugin reads it from the call, and whoever adopts a pod
// from what the runtime has kept of the call, so that both treat it alike.
//
// Like its parent it imports nothing but the standard library.
package cnipod

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// AnnotationPrefix begins the names of the annotations that a pod may carry.
const AnnotationPrefix = "nsqueue.io/"

// The annotations that a pod may carry. One that is refused or has another
// value changes nothing, and is logged by nsqueued.
const (
	// InspectName says whether the pod is inspected. "true" is always allowed, also
	// in an excluded namespace; "false" only where the entry's podAnnotations has
	// inspect.
	InspectName = "inspect"
	// PolicyName is the pod's failure policy. "Fail" is always allowed; "Ignore",
	// where the entry says Fail, only if its podAnnotations has failure-policy.
	PolicyName = "failure-policy"
)

// AnnotationsCapability is the capability by which runtimes pass a pod's
// annotations.
const AnnotationsCapability = "io.kubernetes.cri.pod-annotations"

// keyLowering is the configuration's name of [Settings.Lowering].
const keyLowering = "podAnnotations"

// PluginType is the plugin's name in a CNI configuration, and that of its
// binary.
const PluginType = "nsqueue"

// Entry is nsqueue's entry in the plugins of a CNI configuration. The comments of
// its fields are the configuration reference's.
type Entry struct {
	// Type is the name of the plugin's binary. It is the one field that must be
	// there.
	Type string `json:"type"`
	// Socket is where nsqueued listens: an absolute path of at most 107 bytes.
	Socket string `json:"socket"`
	// FailurePolicy is what happens to a pod that cannot be inspected. Ignore: it
	// has its network all the same. Fail: it does not start, and packets that cannot
	// be inspected are dropped. The plugin always tells nsqueued which one it is, so
	// that nsqueued's own default does not apply to pods that come this way.
	FailurePolicy api.Policy `json:"failurePolicy"`
	// ExcludeNamespaces are Kubernetes namespaces whose pods are not inspected. Under
	// Fail, exclude those that nsqueued itself or the cluster's start depends on.
	ExcludeNamespaces []string `json:"excludeNamespaces,omitempty"`
	// PodAnnotations are the annotations by which a pod may ask for less: inspect,
	// failure-policy.
	PodAnnotations []string `json:"podAnnotations,omitempty"`
	// Capabilities has the runtime pass the pod's annotations, with
	// {"io.kubernetes.cri.pod-annotations": true}; without it there are none.
	Capabilities map[string]bool `json:"capabilities,omitempty"`
}

// DefaultEntry returns what an entry means that has no field but its type.
func DefaultEntry() Entry {
	return Entry{Type: PluginType, Socket: api.DefaultSocket, FailurePolicy: api.Ignore}
}

// ParseArgs takes the pod's identity from CNI_ARGS ("A=B;C=D"). Runtimes put
// other things in there too, and none of it is worth a pod's start.
func ParseArgs(args string) (pod api.Pod, warnings []string) {
	var pairs [][2]string
	for pair := range strings.SplitSeq(args, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case !ok:
			warnings = append(warnings, fmt.Sprintf("CNI_ARGS: %.60q is no KEY=VALUE", pair))
		default:
			pairs = append(pairs, [2]string{key, value})
		}
	}
	return Identity(pairs), warnings
}

// Identity takes the pod's identity from the keys and values of CNI_ARGS; of
// two values of a key the later one counts.
func Identity(args [][2]string) api.Pod {
	var pod api.Pod
	for _, arg := range args {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			pod.Namespace = arg[1]
		case "K8S_POD_NAME":
			pod.Name = arg[1]
		case "K8S_POD_UID":
			pod.UID = arg[1]
		}
	}
	return pod
}

// Settings are what decides how a pod is treated: the plugin's entry in the
// CNI configuration, and the pod's annotations.
type Settings struct {
	// Policy of pods that say nothing of it.
	Policy api.Policy
	// ExcludeNamespaces are those whose pods are not inspected.
	ExcludeNamespaces []string
	// Lowering names the annotations by which a pod may ask for less.
	Lowering []string
	// Annotations of the pod.
	Annotations map[string]string
}

// Decision is how a pod is treated.
type Decision struct {
	Inspect bool
	Policy  api.Policy
	// Warnings are about annotations that changed nothing.
	Warnings []string
}

// Decide joins the configuration with the pod's annotations. A pod may always
// raise: be inspected though its namespace is excluded, and fail closed. To ask
// for less than the configuration gives, the configuration must allow the
// annotation; one that is refused or makes no sense is a warning and changes
// nothing, because a pod's author cannot see the configuration.
func (s *Settings) Decide(namespace string) Decision {
	d := Decision{
		Inspect: !slices.Contains(s.ExcludeNamespaces, namespace),
		Policy:  s.Policy,
	}
	d.apply(s, InspectName, "true", "false", d.Inspect, func(raise bool) { d.Inspect = raise })
	d.apply(s, PolicyName, string(api.Fail), string(api.Ignore), d.Policy == api.Fail,
		func(raise bool) {
			d.Policy = api.Ignore
			if raise {
				d.Policy = api.Fail
			}
		})
	return d
}

// apply looks at one annotation. It has two values, one that raises and one
// that lowers; raised is what the configuration says.
func (d *Decision) apply(
	s *Settings, name, raising, lowering string, raised bool, set func(raise bool),
) {
	value, ok := s.Annotations[AnnotationPrefix+name]
	switch {
	case !ok:
	case value == raising:
		set(true)
	case value != lowering:
		d.warn("annotation %s%s: %.40q ignored: want %q or %q",
			AnnotationPrefix, name, value, raising, lowering)
	case !raised || slices.Contains(s.Lowering, name):
		set(false)
	default:
		d.warn("annotation %s%s: %q refused: %q is not in the CNI configuration's %s",
			AnnotationPrefix, name, value, name, keyLowering)
	}
}

func (d *Decision) warn(format string, args ...any) {
	d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
}
