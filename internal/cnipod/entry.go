// SPDX-License-Identifier: Apache-2.0

package cnipod

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
)

// The names of the entry's own fields.
const (
	FieldSocket            = "socket"
	FieldFailurePolicy     = "failurePolicy"
	FieldExcludeNamespaces = "excludeNamespaces"
	FieldPodAnnotations    = "podAnnotations"
	FieldPassAnnotations   = "passAnnotations"
)

// AnnotationsCapability is the capability by which runtimes pass a pod's
// annotations.
const AnnotationsCapability = "io.kubernetes.cri.pod-annotations"

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
	// PassAnnotations are the pod's annotations that inspectors get to see: names,
	// and beginnings of names that end in '*'. An empty list passes none on. 64
	// annotations of 16 KiB in all are passed on at most, in the order of their
	// names.
	PassAnnotations []string `json:"passAnnotations,omitzero"`
	// Capabilities has the runtime pass the pod's annotations, with
	// {"io.kubernetes.cri.pod-annotations": true}; without it there are none.
	Capabilities map[string]bool `json:"capabilities,omitempty"`
}

// DefaultEntry returns what an entry means that has no field but its type.
func DefaultEntry() Entry {
	return Entry{
		Type: PluginType, Socket: api.DefaultSocket, FailurePolicy: api.Ignore,
		PassAnnotations: DefaultPassAnnotations(),
	}
}

// FieldError says what is wrong with a field of an entry.
type FieldError struct {
	// Field is the field's name in the configuration.
	Field string
	// Problem says what is wanted, and what was found.
	Problem string
}

// Error returns field and problem.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func fieldError(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// maxSocketPath is what fits into a sockaddr_un with its final zero.
const maxSocketPath = 107

// Validate returns a [*FieldError] about the first field that has a value with no
// meaning. All but the type and the capabilities are checked.
func (e *Entry) Validate() error {
	if err := ValidateSocket(e.Socket); err != nil {
		return err
	}
	if e.FailurePolicy.Validate() != nil {
		return fieldError(FieldFailurePolicy, "want %q or %q, got %.40q",
			string(api.Ignore), string(api.Fail), string(e.FailurePolicy))
	}
	for _, ns := range e.ExcludeNamespaces {
		if !validNamespace(ns) {
			return fieldError(FieldExcludeNamespaces, "want names of Kubernetes namespaces "+
				"(lower-case letters, digits, '-'), got %.70q", ns)
		}
	}
	for _, a := range e.PodAnnotations {
		if a != InspectName && a != PolicyName {
			return fieldError(FieldPodAnnotations, "want %q or %q, got %.60q",
				InspectName, PolicyName, a)
		}
	}
	for _, p := range e.PassAnnotations {
		if !validPattern(p) {
			return fieldError(FieldPassAnnotations, "want names of annotations (letters, digits, "+
				"'-', '_', '.', one '/'), or a beginning of them and '*', got %.70q", p)
		}
	}
	return nil
}

// ValidateSocket returns a [*FieldError] where a path cannot be that of a socket.
func ValidateSocket(path string) error {
	if !filepath.IsAbs(path) || len(path) > maxSocketPath || strings.ContainsRune(path, 0) {
		return fieldError(FieldSocket, "want an absolute path of at most %d bytes, got %.120q",
			maxSocketPath, path)
	}
	return nil
}

// validNamespace is the rule for names of Kubernetes namespaces (RFC 1123).
func validNamespace(s string) bool {
	for _, r := range []byte(s) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}
