// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"

	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/test/chart/render"
)

// Each profile is what an API server takes, whether it is old or new, and a pod that does
// not stand in its own way.
func TestProfiles(t *testing.T) {
	for name, values := range profiles(t) {
		t.Run(name, func(t *testing.T) {
			for _, version := range []string{"1.25", "1.29", "1.30", "1.33", "1.37"} {
				all := renderedFor(t, values, version)
				for _, d := range all {
					decode(t, &d)
				}
				set := daemonSet(t, all)
				for _, fault := range faults(all, set) {
					t.Errorf("Kubernetes %s: %s", version, fault)
				}
			}
			checkConfiguration(t, configuration(t, rendered(t, values)))
		})
	}
}

// checkConfiguration wants nsqueued to take the file.
func checkConfiguration(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nsqueued.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := node.LoadConfig(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := c.Validate(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// faults returns what is wrong with a DaemonSet that the API server takes.
func faults(all []render.Document, set *apps.DaemonSet) []string {
	spec := &set.Spec.Template.Spec
	found := rolloutFaults(set)
	for _, c := range containers(spec) {
		found = append(found, containerFaults(&c)...)
	}
	for _, c := range spec.Containers[:1] {
		found = append(found, netnsFaults(spec, &c)...)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		found = append(found, "the pod has a token for the API server")
	}
	for _, d := range all {
		if k := d.Kind(); d.Hook() == "" && strings.HasPrefix(k, "ClusterRole") || k == "Secret" {
			found = append(found, "the release has a "+k)
		}
	}
	return found
}

// rolloutFaults says why a new pod would not take over from the one before.
func rolloutFaults(set *apps.DaemonSet) []string {
	var found []string
	u := set.Spec.UpdateStrategy.RollingUpdate
	if set.Spec.UpdateStrategy.Type != apps.RollingUpdateDaemonSetStrategyType || u == nil ||
		u.MaxSurge == nil || u.MaxUnavailable == nil || u.MaxUnavailable.String() != "0" ||
		u.MaxSurge.String() == "0" {
		found = append(found, fmt.Sprintf("the old pod ends before the new one starts: %v", u))
	}
	args := strings.Join(set.Spec.Template.Spec.Containers[0].Args, " ")
	for _, want := range []string{
		"--handover-dir=/run/nsqueue ", "--runtime-dir=/run/nsqueue-pod ", "--max-deaths=0 ",
		"--linger=", "--instance=" + set.Namespace + "/nsqueue ",
	} {
		if !strings.Contains(args, want) {
			found = append(found, "nsqueued lacks "+want)
		}
	}
	return found
}

// containerFaults says what keeps a container from starting beside its predecessor, or has
// packets wait.
func containerFaults(c *core.Container) []string {
	var found []string
	if len(c.Ports) > 0 {
		found = append(found, c.Name+" declares ports, so that no second pod can start")
	}
	if l := c.Resources.Limits.Cpu(); !l.IsZero() && l.MilliValue() < 2000 {
		found = append(found, c.Name+" has a limit of the processor's time")
	}
	if c.LivenessProbe != nil || c.StartupProbe != nil {
		found = append(found, c.Name+" has a probe that kills it")
	}
	s := c.SecurityContext
	if s == nil || s.Privileged == nil || *s.Privileged || s.ReadOnlyRootFilesystem == nil ||
		!*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
		found = append(found, c.Name+" may do more than it says")
	}
	return found
}

// netnsFaults says which netns nsqueued would not see.
func netnsFaults(spec *core.PodSpec, c *core.Container) []string {
	seen := false
	var found []string
	for _, m := range c.VolumeMounts {
		if !strings.HasPrefix(m.Name, "netns") {
			continue
		}
		seen = seen || m.MountPath == "/run/netns"
		p := m.MountPropagation
		if p == nil || *p != core.MountPropagationHostToContainer {
			found = append(found, m.MountPath+" does not follow the node's")
		}
		if path := hostPath(spec, m.Name); path != m.MountPath {
			found = append(found, path+" is mounted at "+m.MountPath)
		}
	}
	if !seen {
		found = append(found, "/run/netns is missing")
	}
	return found
}

// hostPath returns the node's directory of a volume.
func hostPath(spec *core.PodSpec, name string) string {
	for _, v := range spec.Volumes {
		if v.Name == name && v.HostPath != nil {
			return v.HostPath.Path
		}
	}
	return ""
}

// What is looked for is found.
func TestFaults(t *testing.T) {
	set := daemonSet(t, rendered(t, ""))
	spec := &set.Spec.Template.Spec
	c := &spec.Containers[0]
	c.Ports = []core.ContainerPort{{ContainerPort: 9478}}
	c.SecurityContext.Capabilities.Drop = nil
	c.LivenessProbe = c.ReadinessProbe
	for i := range c.VolumeMounts {
		c.VolumeMounts[i].MountPropagation = nil
	}
	spec.AutomountServiceAccountToken = nil
	set.Spec.UpdateStrategy = apps.DaemonSetUpdateStrategy{}
	c.Args = nil
	got := strings.Join(faults(nil, set), "\n")
	for _, want := range []string{
		"declares ports", "does not follow", "has a token", "ends before", "probe that kills",
		"may do more", "lacks --handover-dir",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not found: %s\n%s", want, got)
		}
	}
}

// Pods of the release's namespace are not inspected, unless that is the one where people
// put pods without a thought.
func TestExcludedNamespaces(t *testing.T) {
	for namespace, want := range map[string]string{
		"default":     "--exclude-namespaces=agents,kube-system",
		"kube-system": "--exclude-namespaces=agents,kube-system",
		"security":    "--exclude-namespaces=agents,kube-system,security",
	} {
		r := render.Release{
			Name: "nsqueue", Namespace: namespace, KubeVersion: "1.33",
			Values: "excludeNamespaces: [kube-system, agents]",
		}
		all, _, err := load(t).Render(&r)
		if err != nil {
			t.Fatal(err)
		}
		c := container(t, &daemonSet(t, all).Spec.Template.Spec, "cni")
		if !slices.Contains(c.Args, want) {
			t.Errorf("namespace %s: %v", namespace, c.Args)
		}
	}
}

// Other rules start no pods, and another configuration does.
func TestChecksum(t *testing.T) {
	sum := func(values string) string {
		return daemonSet(t, rendered(t, values)).Spec.Template.Annotations["checksum/config"]
	}
	rules := "rules: {a.yaml: \"%s\"}"
	if a, b := sum(fmt.Sprintf(rules, "a")), sum(fmt.Sprintf(rules, "b")); a == "" || a != b {
		t.Errorf("other rules: %q became %q", a, b)
	}
	if a, b := sum(""), sum("config: {queue: {count: 2}}"); a == b {
		t.Errorf("another configuration: still %q", a)
	}
}

// An inspector of one's own is checked by itself, and runs under the supervisor.
func TestWorker(t *testing.T) {
	spec := &daemonSet(t, rendered(t, profiles(t)["worker"])).Spec.Template.Spec
	check, run := container(t, spec, "check"), container(t, spec, "nsqueued")
	if !slices.Equal(check.Command, []string{"/usr/local/bin/inspector"}) ||
		!slices.Equal(check.Args, []string{"--failure-policy=Fail"}) ||
		check.Env[0] != (core.EnvVar{Name: node.EnvCheck, Value: node.ReportText}) {
		t.Errorf("check: %v %v %v", check.Command, check.Args, check.Env)
	}
	if args := strings.Join(run.Args, " "); !strings.HasSuffix(args,
		"--worker=/usr/local/bin/inspector -- --failure-policy=Fail") {
		t.Errorf("nsqueued: %s", args)
	}
}
