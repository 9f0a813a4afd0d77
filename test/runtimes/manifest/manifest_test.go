// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// shipped is the pod that the project ships.
const shipped = "../../../deploy/image/pod.yaml"

func load(t *testing.T) *Pod {
	t.Helper()
	p, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConfigs(t *testing.T) {
	p := load(t)
	first, configs, err := p.Configs()
	if err != nil || len(first) != 1 {
		t.Fatalf("%d containers run first: %v", len(first), err)
	}
	s := configs[0].GetLinux().GetSecurityContext()
	o := s.GetNamespaceOptions()
	if !s.GetReadonlyRootfs() || s.GetPrivileged() || o.GetPid() != runtime.NamespaceMode_NODE ||
		o.GetNetwork() != runtime.NamespaceMode_NODE ||
		s.GetSeccomp().GetProfileType() != runtime.SecurityProfile_RuntimeDefault ||
		!slices.Contains(s.GetCapabilities().GetAddCapabilities(), "SYS_PTRACE") ||
		!slices.Equal(s.GetCapabilities().GetDropCapabilities(), []string{"ALL"}) {
		t.Errorf("security context: %v", s)
	}
	propagated := 0
	for _, m := range configs[0].GetMounts() {
		if m.GetPropagation() == runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER {
			propagated++
		}
		own := m.GetContainerPath() == "/run/nsqueue-pod"
		if own != strings.Contains(m.GetHostPath(), "/uid-of-nsqueue/") {
			t.Errorf("%s is mounted at %s", m.GetHostPath(), m.GetContainerPath())
		}
		if !own && m.GetContainerPath() != m.GetHostPath() {
			t.Errorf("%s is mounted at another place, %s", m.GetHostPath(), m.GetContainerPath())
		}
	}
	if propagated != 1 {
		t.Errorf("%d of the mounts show later ones", propagated)
	}
}

func TestChanges(t *testing.T) {
	p := load(t)
	p.Deny("SYS_PTRACE")
	p.Unpropagate()
	p.Each(func(c *Container) { c.Image = "other" })
	p.Spec.HostPID = false
	p.Volume("run").HostPath.Path = "/elsewhere"
	first, then, err := p.Configs()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(first, then...) {
		s := c.GetLinux().GetSecurityContext()
		if slices.Contains(s.GetCapabilities().GetAddCapabilities(), "SYS_PTRACE") ||
			s.GetNamespaceOptions().GetPid() != runtime.NamespaceMode_CONTAINER ||
			c.GetImage().GetImage() != "other" || c.GetMounts()[0].GetHostPath() != "/elsewhere" {
			t.Errorf("not changed: %v", c)
		}
	}
	p.Spec.Volumes = nil
	if _, _, err := p.Configs(); err == nil || !strings.Contains(err.Error(), "which is no volume") {
		t.Errorf("without volumes: %v", err)
	}
}

// The installation guide says what each capability is for, and has no others.
func TestCapabilitiesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n| capability |")
	table, _, _ = strings.Cut(table, "\n\n")
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)`").FindAllStringSubmatch(table, -1) {
		explained = append(explained, row[1])
	}
	spec := load(t).Spec
	for _, c := range []Container{spec.InitContainers[0], spec.Containers[0]} {
		if has := c.SecurityContext.Capabilities.Add; !slices.Equal(explained, has) {
			t.Errorf("docs/install.md explains %v; %s has %v", explained, c.Name, has)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Pod\napiVersion: v1\nspec: {hostIPC: true}": "hostIPC",
		"kind: Service\napiVersion: v1":                    "is no pod",
		"kind: Pod\napiVersion: v1":                        "is no pod",
	} {
		path := filepath.Join(t.TempDir(), "pod.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Load("/missing.yaml"); err == nil {
		t.Error("a missing file is a pod")
	}
}
