// SPDX-License-Identifier: Apache-2.0

package conflist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// pluginType is the name of our plugin, and of its binary.
const pluginType = cnipod.PluginType

// maxSocketPath is what fits into a sockaddr_un with its final zero.
const maxSocketPath = 107

// Entry is the entry of nsqueue in a chain of plugins. The pod's annotations are
// always asked for, so that a pod may raise what is done for it.
type Entry struct {
	// Socket is where nsqueued listens.
	Socket string
	// FailurePolicy must be set.
	FailurePolicy api.Policy
	// ExcludeNamespaces are Kubernetes namespaces whose pods are not inspected.
	ExcludeNamespaces []string
	// PodAnnotations are those by which a pod may ask for less.
	PodAnnotations []string
}

// Validate finds what the plugin would refuse at each pod.
func (e *Entry) Validate() error {
	if !filepath.IsAbs(e.Socket) || len(e.Socket) > maxSocketPath {
		return fmt.Errorf("socket %q: want an absolute path of at most %d bytes",
			e.Socket, maxSocketPath)
	}
	if err := e.FailurePolicy.Validate(); err != nil {
		return err
	}
	namespace := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	for _, ns := range e.ExcludeNamespaces {
		if !namespace.MatchString(ns) {
			return fmt.Errorf("namespace %q: want lower-case letters, digits and '-'", ns)
		}
	}
	for _, a := range e.PodAnnotations {
		if !slices.Contains([]string{"inspect", "failure-policy"}, a) {
			return fmt.Errorf("pod annotation %q: want inspect or failure-policy", a)
		}
	}
	return nil
}

// text returns the entry as JSON, indented unless unit is empty. It has no
// newline at its end.
func (e *Entry) text(prefix, unit string) ([]byte, error) {
	v := cnipod.Entry{
		Type: pluginType, Socket: e.Socket, FailurePolicy: e.FailurePolicy,
		ExcludeNamespaces: e.ExcludeNamespaces, PodAnnotations: e.PodAnnotations,
		Capabilities: map[string]bool{cnipod.AnnotationsCapability: true},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if unit != "" {
		enc.SetIndent(prefix, unit)
	}
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// equals says whether a text says the same as the entry, in whatever form.
func (e *Entry) equals(raw []byte) (bool, error) {
	own, err := e.text("", "")
	if err != nil {
		return false, err
	}
	var a, b any
	if json.Unmarshal(own, &a) != nil || json.Unmarshal(raw, &b) != nil {
		return false, nil
	}
	return reflect.DeepEqual(a, b), nil
}
