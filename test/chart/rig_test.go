// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kubernetes "k8s.io/client-go/kubernetes/scheme"

	"github.com/nsqueue/nsqueue/test/chart/generate"
	"github.com/nsqueue/nsqueue/test/chart/render"
)

const root = "../.."

func load(t *testing.T) *render.Chart {
	t.Helper()
	c, err := render.Load(filepath.Join(root, generate.Chart))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// profiles returns the files of values that the chart comes with, by name.
func profiles(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, generate.Chart, "ci/*-values.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("profiles: %v, %v", files, err)
	}
	all := make(map[string]string)
	for _, file := range files {
		all[strings.TrimSuffix(filepath.Base(file), "-values.yaml")] = read(t, file)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rendered returns the objects of a release with these values, as helm applies them.
func rendered(t *testing.T, values string) []render.Document {
	t.Helper()
	return renderedFor(t, values, generate.Static().KubeVersion)
}

func renderedFor(t *testing.T, values, kubeVersion string) []render.Document {
	t.Helper()
	r := generate.Static()
	r.Values, r.KubeVersion = values, kubeVersion
	all, notes, err := load(t).Render(&r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(notes, "rollout status daemonset/nsqueue") {
		t.Errorf("notes:\n%s", notes)
	}
	return all
}

// decode returns the object as the API server reads it. A field that is not known, or is
// there twice, is an error.
func decode(t *testing.T, d *render.Document) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{kubernetes.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	o, _, err := codecs.UniversalDeserializer().Decode([]byte(d.Text), nil, nil)
	if err != nil {
		t.Fatalf("%s: %v\n%s", d.Source, err, d.Text)
	}
	return o
}

// daemonSet returns the one that inspects.
func daemonSet(t *testing.T, all []render.Document) *apps.DaemonSet {
	t.Helper()
	for _, d := range all {
		if s, ok := decode(t, &d).(*apps.DaemonSet); ok && d.Hook() == "" {
			return s
		}
	}
	t.Fatal("no DaemonSet")
	return nil
}

// configuration returns the text of nsqueued's file.
func configuration(t *testing.T, all []render.Document) string {
	t.Helper()
	for _, d := range all {
		if c, ok := decode(t, &d).(*core.ConfigMap); ok && c.Name == "nsqueue" {
			return c.Data["nsqueued.yaml"]
		}
	}
	t.Fatal("no ConfigMap of nsqueued's")
	return ""
}

// find returns an object by its kind and name, as it is rendered.
func find[T runtime.Object](t *testing.T, all []render.Document, name string) T {
	t.Helper()
	for _, d := range all {
		if o, ok := decode(t, &d).(T); ok && d.Name() == name {
			return o
		}
	}
	t.Fatalf("there is no %T %s", *new(T), name)
	return *new(T)
}

// containers returns all of a pod, those that run first included.
func containers(spec *core.PodSpec) []core.Container {
	return append(append([]core.Container(nil), spec.InitContainers...), spec.Containers...)
}

// container returns one of a pod.
func container(t *testing.T, spec *core.PodSpec, name string) *core.Container {
	t.Helper()
	for _, c := range containers(spec) {
		if c.Name == name {
			return &c
		}
	}
	t.Fatalf("no container %s", name)
	return nil
}
