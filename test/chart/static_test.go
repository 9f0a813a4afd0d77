// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/test/chart/generate"
	"github.com/nsqueue/nsqueue/test/chart/render"
)

// What is made of the chart is what it would be made of it now.
func TestGeneratedFiles(t *testing.T) {
	stale, err := generate.Stale(root)
	if err != nil || len(stale) > 0 {
		t.Errorf("run make docs: %v, %v", stale, err)
	}
}

// kustomize makes of the base and components what the chart makes of the values that
// they stand for, alone and together.
func TestComponents(t *testing.T) {
	var names []string
	values := ""
	for _, c := range generate.Components() {
		compareWithChart(t, []string{c.Name}, c.Values)
		names, values = append(names, c.Name), values+c.Values
	}
	compareWithChart(t, nil, "")
	compareWithChart(t, names, values)
}

func compareWithChart(t *testing.T, components []string, values string) {
	t.Helper()
	have := build(t, components)
	for _, d := range rendered(t, values) {
		if d.Hook() != "" && !generate.Cleans(&d) {
			continue
		}
		generate.WithoutHelm(&d)
		key := d.Kind() + "/" + d.Name()
		if !reflect.DeepEqual(have[key], d.Object) {
			t.Errorf("components %v: %s is\n%s\nwant\n%s", components, key, marshal(t, have[key]),
				marshal(t, d.Object))
		}
		delete(have, key)
	}
	delete(have, "Namespace/"+generate.Static().Namespace)
	for key := range have {
		t.Errorf("components %v: the chart has no %s", components, key)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// build runs kustomize over an overlay with these components.
func build(t *testing.T, components []string) map[string]map[string]any {
	t.Helper()
	dir := t.TempDir()
	base, err := filepath.Abs(filepath.Join(root, generate.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	if base, err = filepath.Rel(dir, base); err != nil {
		t.Fatal(err)
	}
	text := "resources: [" + base + ", " + base + "/uninstall]\ncomponents:\n"
	for _, name := range components {
		text += "- " + base + "/components/" + name + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k := krusty.MakeKustomizer(krusty.MakeDefaultOptions())
	made, err := k.Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]map[string]any)
	for _, r := range made.Resources() {
		o := make(map[string]any)
		if err := yaml.Unmarshal([]byte(r.MustYaml()), &o); err != nil {
			t.Fatal(err)
		}
		d := render.Document{Object: o}
		all[d.Kind()+"/"+d.Name()] = o
	}
	return all
}

// The manifests name no helm, and nothing that only helm runs.
func TestStaticManifest(t *testing.T) {
	for _, file := range []string{"nsqueue.yaml", "uninstall/nsqueue-cleanup.yaml"} {
		text := read(t, filepath.Join(root, generate.Manifest, file))
		if strings.Contains(strings.ToLower(text), "helm") {
			t.Errorf("%s speaks of helm", file)
		}
	}
}
