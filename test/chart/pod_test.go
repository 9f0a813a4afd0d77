// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/nsqueue/nsqueue/test/chart/render"
)

// The static pod is the DaemonSet's, but for settings, which stand in its flags.
func TestStaticPod(t *testing.T) {
	pod := staticPod(t)
	spec := &daemonSet(t, rendered(t, "")).Spec.Template.Spec
	for _, c := range spec.InitContainers {
		compareContainers(t, &c, container(t, &pod.Spec, c.Name))
	}
	for _, c := range spec.Containers {
		compareContainers(t, &c, container(t, &pod.Spec, c.Name))
	}
	for _, v := range pod.Spec.Volumes {
		if i := slices.IndexFunc(spec.Volumes, func(o core.Volume) bool { return o.Name == v.Name }); i < 0 || !reflect.DeepEqual(spec.Volumes[i], v) {
			t.Errorf("volume %s is another one in the chart", v.Name)
		}
	}
	same := pod.Spec
	same.HostUsers = spec.HostUsers // the default, which the chart writes out
	same.NodeSelector, same.ServiceAccountName = spec.NodeSelector, spec.ServiceAccountName
	same.InitContainers, same.Containers, same.Volumes = spec.InitContainers, spec.Containers, spec.Volumes
	if !reflect.DeepEqual(&same, spec) {
		t.Errorf("the static pod is\n%s\nthe chart's is\n%s", marshal(t, &same), marshal(t, spec))
	}
}

func staticPod(t *testing.T) *core.Pod {
	t.Helper()
	d := render.Document{Text: read(t, filepath.Join(root, "deploy/image/pod.yaml"))}
	pod, ok := decode(t, &d).(*core.Pod)
	if !ok {
		t.Fatal("deploy/image/pod.yaml has no pod")
	}
	return pod
}

// compareContainers wants the same rights, resources and directories of the node.
func compareContainers(t *testing.T, chart, pod *core.Container) {
	t.Helper()
	if chart.Image != pod.Image || !slices.Equal(chart.Command, pod.Command) {
		t.Errorf("%s: %s %v in the static pod, %s %v in the chart", pod.Name, pod.Image, pod.Command,
			chart.Image, chart.Command)
	}
	if !reflect.DeepEqual(chart.SecurityContext, pod.SecurityContext) {
		t.Errorf("%s may\n%sin the static pod, and\n%sin the chart", pod.Name,
			marshal(t, pod.SecurityContext), marshal(t, chart.SecurityContext))
	}
	if pod.Name != "check" && !reflect.DeepEqual(chart.Resources, pod.Resources) {
		t.Errorf("%s has other resources", pod.Name)
	}
	if !reflect.DeepEqual(chart.ReadinessProbe, pod.ReadinessProbe) {
		t.Errorf("%s is ready by other answers", pod.Name)
	}
	if strange := strangeFlags(chart.Args, pod.Args); len(strange) > 0 {
		t.Errorf("%s has %q in the static pod, and not in the chart", pod.Name, strange)
	}
	mounts := slices.DeleteFunc(slices.Clone(chart.VolumeMounts), func(m core.VolumeMount) bool {
		return m.Name == "config"
	})
	if !reflect.DeepEqual(mounts, pod.VolumeMounts) {
		t.Errorf("%s has\n%sin the static pod, and\n%sin the chart", pod.Name,
			marshal(t, pod.VolumeMounts), marshal(t, mounts))
	}
}

// strangeFlags returns the arguments that the chart does not have. What is told to
// installations from each other, and what the chart has values for, may differ.
func strangeFlags(chart, pod []string) []string {
	settings := []string{"--instance=", "--exclude-namespaces="}
	return slices.DeleteFunc(slices.Clone(pod), func(arg string) bool {
		return slices.Contains(chart, arg) || slices.ContainsFunc(settings, func(s string) bool {
			return strings.HasPrefix(arg, s)
		})
	})
}
