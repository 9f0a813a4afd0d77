// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/test/chart/render"
)

// kustomization is a file of kustomize.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources,omitempty"`
	Patches    []patch  `json:"patches,omitempty"`
}

type patch struct {
	Target struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"target"`
	Patch string `json:"patch"`
}

// add makes the files of a component.
func (c *Component) add(files map[string][]byte, base, changed []render.Document) error {
	dir := Manifest + "/components/" + c.Name
	k := kustomization{APIVersion: "kustomize.config.k8s.io/v1alpha1", Kind: "Component"}
	var added []render.Document
	for _, d := range changed {
		i := slices.IndexFunc(base, func(b render.Document) bool {
			return b.Kind() == d.Kind() && b.Name() == d.Name()
		})
		if i < 0 {
			added = append(added, d)
			continue
		}
		if err := k.change(&base[i], &d); err != nil {
			return fmt.Errorf("component %s: %w", c.Name, err)
		}
	}
	header := licence + madeFrom
	if len(added) > 0 {
		k.Resources = []string{"resources.yaml"}
		files[dir+"/resources.yaml"] = []byte(header + join(added, stays))
	}
	text, err := yaml.Marshal(&k)
	files[dir+"/kustomization.yaml"] = []byte(header + "#\n# " + c.What + "\n" + string(text))
	return err
}

// change adds what makes one object of the other.
func (k *kustomization) change(from, to *render.Document) error {
	ops := difference("", from.Object, to.Object)
	if len(ops) == 0 {
		return nil
	}
	text, err := yaml.Marshal(ops)
	if err != nil {
		return err
	}
	p := patch{Patch: string(text)}
	p.Target.Kind, p.Target.Name = from.Kind(), from.Name()
	k.Patches = append(k.Patches, p)
	return nil
}

// op is a step of a JSON patch.
type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// difference returns the steps from one value to another. Lists keep their items where
// they are, so that the steps of several components can follow each other.
func difference(path string, from, to any) []op {
	if a, ok := from.(map[string]any); ok {
		if b, ok := to.(map[string]any); ok {
			return mapDifference(path, a, b)
		}
	}
	if a, ok := from.([]any); ok {
		if b, ok := to.([]any); ok && len(b) >= len(a) {
			return listDifference(path, a, b)
		}
	}
	if reflect.DeepEqual(from, to) {
		return nil
	}
	return []op{{"replace", path, to}}
}

func mapDifference(path string, a, b map[string]any) []op {
	var ops []op
	for _, key := range keys(a, b) {
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		have, before := a[key]
		want, after := b[key]
		switch {
		case !after:
			ops = append(ops, op{"remove", at, nil})
		case !before:
			ops = append(ops, op{"add", at, want})
		default:
			ops = append(ops, difference(at, have, want)...)
		}
	}
	return ops
}

func keys(a, b map[string]any) []string {
	var all []string
	for _, m := range []map[string]any{a, b} {
		for key := range m {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func listDifference(path string, a, b []any) []op {
	var ops []op
	for i := range b {
		if i < len(a) {
			ops = append(ops, difference(fmt.Sprintf("%s/%d", path, i), a[i], b[i])...)
		} else {
			ops = append(ops, op{"add", path + "/-", b[i]})
		}
	}
	return ops
}
