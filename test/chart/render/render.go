// SPDX-License-Identifier: Apache-2.0

// Package render makes of the chart what helm would give the API server. It reads the
// chart as helm does, and needs no cluster.
package render

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

// Release is what the chart is rendered for.
type Release struct {
	Name, Namespace string
	// KubeVersion is the cluster's, such as 1.33.
	KubeVersion string
	// Values are YAML text, and may be empty.
	Values string
}

// Document is one object.
type Document struct {
	// Source is the path of its template in the chart.
	Source string
	// Text is YAML with the comments of the template.
	Text string
	// Object is what the text means.
	Object map[string]any
}

// Kind returns the kind of the object.
func (d *Document) Kind() string { return text(d.Object["kind"]) }

// Name returns the name of the object.
func (d *Document) Name() string {
	meta, _ := d.Object["metadata"].(map[string]any)
	return text(meta["name"])
}

// Hook returns the kinds of hook that the object is, empty for none.
func (d *Document) Hook() string {
	meta, _ := d.Object["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	return text(annotations["helm.sh/hook"])
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// Chart is a chart that was read.
type Chart struct{ chart *chart.Chart }

// Load reads the chart in a directory.
func Load(dir string) (*Chart, error) {
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	return &Chart{c}, c.Validate()
}

// Metadata returns the versions of the chart and of what it installs, and the versions of
// Kubernetes that it is for.
func (c *Chart) Metadata() (version, appVersion, kube string) {
	m := c.chart.Metadata
	return m.Version, m.AppVersion, m.KubeVersion
}

const notes = "NOTES.txt"

// Render returns the objects of a release in the order of installation, and the notes.
func (c *Chart) Render(r *Release) ([]Document, string, error) {
	files, err := c.execute(r)
	if err != nil {
		return nil, "", err
	}
	var all []Document
	said := ""
	for file, content := range files {
		switch base := path.Base(file); {
		case base == notes:
			said = content
		case strings.HasPrefix(base, "_"):
		default:
			documents, err := split(file, content)
			if err != nil {
				return nil, "", err
			}
			all = append(all, documents...)
		}
	}
	slices.SortFunc(all, compare)
	return all, said, nil
}

// execute returns what each template makes. Values that the schema refuses are an error.
func (c *Chart) execute(r *Release) (map[string]string, error) {
	values := make(map[string]any)
	if err := yaml.Unmarshal([]byte(r.Values), &values); err != nil {
		return nil, err
	}
	kube, err := chartutil.ParseKubeVersion("v" + r.KubeVersion + ".0")
	if err != nil {
		return nil, err
	}
	if want := c.chart.Metadata.KubeVersion; !chartutil.IsCompatibleRange(want, kube.Version) {
		return nil, fmt.Errorf("chart is for Kubernetes %s, not %s", want, kube.Version)
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *kube
	all, err := chartutil.ToRenderValues(c.chart, values, chartutil.ReleaseOptions{
		Name: r.Name, Namespace: r.Namespace, Revision: 1, IsInstall: true,
	}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(c.chart, all)
}

// split returns the documents of a file. Parts without an object are left out.
func split(file, content string) ([]Document, error) {
	_, source, _ := strings.Cut(file, "/")
	var all []Document
	for part := range strings.SplitSeq("\n"+content, "\n---") {
		d := Document{Source: source, Text: strings.TrimSpace(part) + "\n"}
		if err := yaml.UnmarshalStrict([]byte(part), &d.Object); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", source, err, part)
		}
		if d.Object != nil {
			all = append(all, d)
		}
	}
	return all, nil
}

// compare orders documents as helm installs them.
func compare(a, b Document) int {
	if n := order(a.Kind()) - order(b.Kind()); n != 0 {
		return n
	}
	return strings.Compare(a.Kind()+"/"+a.Name(), b.Kind()+"/"+b.Name())
}

func order(kind string) int {
	if i := slices.Index(releaseutil.InstallOrder, kind); i >= 0 {
		return i
	}
	return len(releaseutil.InstallOrder) // which helm installs last
}

// Values reads a file of values.
func Values(file string) (string, error) {
	b, err := os.ReadFile(file)
	return string(b), err
}
