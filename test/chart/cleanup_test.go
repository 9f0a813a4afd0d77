// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/pod-security-admission/api"
)

// A node is cleaned by pods that have of it what those have that inspect, and no token.
func TestCleanup(t *testing.T) {
	for name, values := range profiles(t) {
		all := rendered(t, values)
		set := &daemonSet(t, all).Spec.Template.Spec
		cleanup := find[*apps.DaemonSet](t, all, "nsqueue-cleanup")
		spec := &cleanup.Spec.Template.Spec
		retire, uninstall := container(t, spec, "retire"), container(t, spec, "uninstall")
		nsqueued, keep := container(t, set, "nsqueued"), container(t, spec, "keep")
		if !reflect.DeepEqual(retire.SecurityContext, nsqueued.SecurityContext) ||
			!slices.Equal(hostMounts(spec, retire), hostMounts(set, nsqueued)) {
			t.Errorf("%s: retire may\n%sand nsqueued\n%s", name, marshal(t, retire), marshal(t, nsqueued))
		}
		if len(set.Containers) > 1 {
			cni := container(t, set, "cni")
			for _, c := range []*core.Container{uninstall, keep} {
				if !slices.Equal(hostMounts(spec, c), hostMounts(set, cni)) {
					t.Errorf("%s: %s has other directories than cni", name, c.Name)
				}
			}
		}
		if !spec.HostNetwork || !spec.HostPID || *spec.AutomountServiceAccountToken ||
			!reflect.DeepEqual(spec.Tolerations, set.Tolerations) ||
			!reflect.DeepEqual(spec.NodeSelector, set.NodeSelector) {
			t.Errorf("%s: the pod that cleans is another kind of pod", name)
		}
		for key, value := range cleanup.Spec.Template.Labels {
			if key == "app.kubernetes.io/name" && value == "nsqueue" {
				t.Errorf("%s: the DaemonSet of nsqueue would take the pods for its own", name)
			}
		}
	}
}

// hostMounts returns the directories of the node that a container has, with their use.
func hostMounts(spec *core.PodSpec, c *core.Container) []string {
	var all []string
	for _, m := range c.VolumeMounts {
		if path := hostPath(spec, m.Name); path != "" {
			use := ""
			if m.ReadOnly {
				use = " read-only"
			}
			if m.MountPropagation != nil {
				use += " " + string(*m.MountPropagation)
			}
			all = append(all, path+" at "+m.MountPath+use)
		}
	}
	return all
}

// The hooks run before anything is removed, what they need comes first, and helm removes
// all of them.
func TestHooks(t *testing.T) {
	weights := map[string]string{
		"ServiceAccount": "-30", "Role": "-30", "RoleBinding": "-20", "DaemonSet": "-10", "Job": "0",
	}
	for _, d := range rendered(t, "") {
		meta, _ := d.Object["metadata"].(map[string]any)
		annotations, _ := meta["annotations"].(map[string]any)
		if d.Hook() != "pre-delete" {
			continue
		}
		if annotations["helm.sh/hook-weight"] != weights[d.Kind()] ||
			annotations["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded" {
			t.Errorf("%s: %v", d.Kind(), annotations)
		}
		delete(weights, d.Kind())
	}
	if len(weights) > 0 {
		t.Errorf("no hooks: %v", weights)
	}
	for _, d := range rendered(t, "cleanup: {enabled: false}") {
		if d.Hook() == "pre-delete" {
			t.Errorf("a %s cleans, though it is not to", d.Kind())
		}
	}
}

// Only the pod that waits may ask the API server, and not for much.
func TestWaitingPod(t *testing.T) {
	all := rendered(t, "")
	job := find[*batch.Job](t, all, "nsqueue-cleanup-wait")
	spec := &job.Spec.Template.Spec
	args := strings.Join(spec.Containers[0].Args, " ")
	if !*spec.AutomountServiceAccountToken || spec.ServiceAccountName != "nsqueue-cleanup" ||
		!strings.HasPrefix(args, "await-nodes nsqueue-cleanup --namespace=nsqueue-system ") {
		t.Errorf("the pod that waits is\n%s", marshal(t, spec))
	}
	cleanup := find[*apps.DaemonSet](t, all, "nsqueue-cleanup")
	for key, value := range cleanup.Spec.Template.Labels {
		if !strings.Contains(args, key+"="+value) {
			t.Errorf("it does not look for %s=%s: %s", key, value, args)
		}
	}
	want := []rbac.PolicyRule{
		{
			APIGroups: []string{"apps"}, Resources: []string{"daemonsets"},
			ResourceNames: []string{"nsqueue-cleanup"}, Verbs: []string{"get"},
		},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
	}
	if role := find[*rbac.Role](t, all, "nsqueue-cleanup"); !reflect.DeepEqual(role.Rules, want) {
		t.Errorf("it may\n%s", marshal(t, role.Rules))
	}
	got := violations(t, api.LevelRestricted, &job.Spec.Template.ObjectMeta, spec)
	if !slices.Equal(got, []string{"host namespaces: hostNetwork=true"}) {
		t.Errorf("the pod that waits violates %q", got)
	}
	for _, taint := range []string{"not-ready", "unreachable"} {
		if !slices.ContainsFunc(spec.Tolerations, func(o core.Toleration) bool {
			return o.Key == "node.kubernetes.io/"+taint && o.TolerationSeconds != nil &&
				*o.TolerationSeconds == 0
		}) {
			t.Errorf("the pod that waits stays on a node that is %s", taint)
		}
	}
	for _, o := range spec.Tolerations {
		if o.Key == "" {
			t.Errorf("the pod that waits may start on a node that is down: %+v", o)
		}
	}
}
