// SPDX-License-Identifier: Apache-2.0

// Package cnipod reads what a CNI call says about its pod: the pod's identity, and
// how nsqueue treats the pod. The plugin reads the call itself. To adopt a pod,
// nsqueued reads what the runtime has stored of the call, so that both treat the pod
// alike.
//
// It imports nothing but the standard library and package api, because it is linked
// into the CNI plugin.
package cnipod

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// AnnotationPrefix begins the names of the annotations that a pod may carry.
const AnnotationPrefix = "nsqueue.io/"

// The annotations that a pod may carry. One that is refused changes nothing, and is
// an event of nsqueued's. So is one with another value, or with another name that
// means nothing to inspectors; under Fail a pod with such a one does not start.
const (
	// InspectName says whether the pod is inspected. "true" is always allowed, also
	// in an excluded namespace; "false" only where the entry's podAnnotations has
	// inspect.
	InspectName = "inspect"
	// PolicyName is the pod's failure policy. "Fail" is always allowed; "Ignore",
	// where the entry says Fail, only if its podAnnotations has failure-policy.
	PolicyName = "failure-policy"
)

// ParseArgs takes the pod's identity from CNI_ARGS ("A=B;C=D"). Runtimes put other
// things in there too. No value in it is a reason to keep a pod from starting.
func ParseArgs(args string) (pod api.Pod, warnings []string) {
	var pairs [][2]string
	for pair := range strings.SplitSeq(args, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case !ok:
			warnings = append(warnings,
				fmt.Sprintf("CNI_ARGS: %.60q ignored: want KEY=VALUE", pair))
		case isIdentity(key) && !validName(value):
			warnings = append(warnings, fmt.Sprintf("CNI_ARGS: %s of %d bytes ignored: "+
				"want UTF-8 of at most %d bytes, got %.20q", key, len(value), api.MaxName, value))
		default:
			pairs = append(pairs, [2]string{key, value})
		}
	}
	return Identity(pairs), warnings
}

// The keys of CNI_ARGS that identify the pod.
const (
	argNamespace = "K8S_POD_NAMESPACE"
	argName      = "K8S_POD_NAME"
	argUID       = "K8S_POD_UID"
)

func isIdentity(key string) bool {
	return key == argNamespace || key == argName || key == argUID
}

// validName is a rule that every name in Kubernetes meets.
func validName(s string) bool { return len(s) <= api.MaxName && utf8.ValidString(s) }

// Identity takes the pod's identity from the keys and values of CNI_ARGS. Values
// that cannot be a name are ignored; of two others of a key the later one counts.
func Identity(args [][2]string) api.Pod {
	var pod api.Pod
	for _, arg := range args {
		if !validName(arg[1]) {
			continue
		}
		switch arg[0] {
		case argNamespace:
			pod.Namespace = arg[1]
		case argName:
			pod.Name = arg[1]
		case argUID:
			pod.UID = arg[1]
		}
	}
	return pod
}

// Settings are what decides how a pod is treated: the plugin's entry in the
// CNI configuration, and the pod's annotations.
type Settings struct {
	// Policy of pods without an annotation for it.
	Policy api.Policy
	// ExcludeNamespaces are those whose pods are not inspected.
	ExcludeNamespaces []string
	// Lowering names the annotations by which a pod may ask for less.
	Lowering []string
	// Passing are the names, and beginnings of names, of the annotations that
	// inspectors get to see; nil means [DefaultPassAnnotations].
	Passing []string
	// Annotations of the pod.
	Annotations map[string]string
}

// Decision is how a pod is treated.
type Decision struct {
	Inspect bool
	Policy  api.Policy
	// Annotations are those of an inspected pod that inspectors get to see.
	Annotations map[string]string
	// Warnings are about annotations that changed nothing.
	Warnings []string
	// Refusal says why the pod must not start: under Fail one of its annotations
	// has no meaning, and may have been meant to ask for more.
	Refusal string
}

// Decide joins the configuration with the pod's annotations. A pod may always
// raise: be inspected though its namespace is excluded, and fail closed. To ask
// for less than the configuration gives, the configuration must allow the
// annotation; one that is refused is a warning and changes nothing, because a
// pod's author cannot see the configuration. So is one that has no meaning, which
// under Fail refuses the pod.
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
	meaningless := append(s.unknown(), s.badValues()...)
	if d.Inspect {
		var beyond []string
		d.Annotations, beyond = api.LimitAnnotations(s.passed())
		meaningless = append(meaningless, beyond...)
	}
	if d.Policy == api.Fail && len(meaningless) > 0 {
		d.Refusal = "pod refused: " + strings.Join(api.LimitWarnings(meaningless), "; ")
	}
	d.Warnings = append(meaningless, d.Warnings...)
	return d
}

// unknown finds annotations that are named as nsqueue's and are none of them.
func (s *Settings) unknown() []string {
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		name, ours := strings.CutPrefix(key, AnnotationPrefix)
		if ours && name != InspectName && name != PolicyName && !s.forInspectors(key) {
			warnings = append(warnings, fmt.Sprintf("annotation %.60q ignored: nsqueue has %s%s "+
				"and %s%s", key, AnnotationPrefix, InspectName, AnnotationPrefix, PolicyName))
		}
	}
	return warnings
}

// badValues finds annotations with values that they do not have.
func (s *Settings) badValues() []string {
	var warnings []string
	for _, a := range []struct{ name, raising, lowering string }{
		{InspectName, "true", "false"}, {PolicyName, string(api.Fail), string(api.Ignore)},
	} {
		value, ok := s.Annotations[AnnotationPrefix+a.name]
		if ok && value != a.raising && value != a.lowering {
			warnings = append(warnings, fmt.Sprintf("annotation %s%s: %.40q ignored: want %q or %q",
				AnnotationPrefix, a.name, value, a.raising, a.lowering))
		}
	}
	return warnings
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
	case value != lowering: // see badValues
	case !raised || slices.Contains(s.Lowering, name):
		set(false)
	default:
		d.warn("annotation %s%s: %q refused: %q is not in the CNI configuration's %s",
			AnnotationPrefix, name, value, name, FieldPodAnnotations)
	}
}

func (d *Decision) warn(format string, args ...any) {
	d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
}
