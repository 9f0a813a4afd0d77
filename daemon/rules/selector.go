// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/daemon/rules/internal/compile"
)

// PodSelector chooses pods by what is written in the field pods of a set of rules. All
// that is given must hold.
type PodSelector struct {
	// Namespaces are those whose pods are chosen; none: all. A star stands for any letters.
	Namespaces []string `json:"namespaces,omitempty"`
	// ExcludeNamespaces are those whose pods are not.
	ExcludeNamespaces []string `json:"excludeNamespaces,omitempty"`
	// When is a condition on the pod in CEL, which may name pod.* only.
	When string `json:"when,omitempty"`
}

// Compile returns what says whether a pod is chosen, or what is wrong.
func (s *PodSelector) Compile() (func(*Pod) bool, error) {
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": compile.APIVersion, "kind": compile.Kind,
		"metadata": map[string]any{"name": "selector"},
		"spec":     map[string]any{"pods": s},
	})
	if err != nil {
		return nil, err
	}
	r, err := Compile(File{Data: text})
	if all, ok := errors.AsType[Errors](err); ok {
		return nil, errors.New(all[0].Text)
	}
	if err != nil {
		return nil, err
	}
	return r.Sets()[0].Selects, nil
}
