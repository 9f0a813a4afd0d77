// SPDX-License-Identifier: Apache-2.0

// Package manifest reads a pod from YAML, and makes of it what a kubelet asks a
// container runtime for. It knows the fields that the project's own pods use, and
// refuses others: what it passes over would not be tested.
package manifest

import (
	"fmt"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

// Pod is a pod of Kubernetes.
type Pod struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names a pod.
type Metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
}

// Spec is what runs in a pod, and how.
type Spec struct {
	HostNetwork      bool        `json:"hostNetwork"`
	HostPID          bool        `json:"hostPID"`
	PriorityClass    string      `json:"priorityClassName"`
	SecurityContext  Security    `json:"securityContext"`
	InitContainers   []Container `json:"initContainers"`
	Containers       []Container `json:"containers"`
	Volumes          []Volume    `json:"volumes"`
	DNSPolicy        string      `json:"dnsPolicy"`
	GracePeriod      int64       `json:"terminationGracePeriodSeconds"`
	ServiceLinks     *bool       `json:"enableServiceLinks"`
	AutomountedToken *bool       `json:"automountServiceAccountToken"`
	Tolerations      []struct {
		Operator string `json:"operator"`
	} `json:"tolerations"`
}

// Security is the security context of a pod, or of a container.
type Security struct {
	Privileged   bool         `json:"privileged"`
	ReadOnlyRoot bool         `json:"readOnlyRootFilesystem"`
	Capabilities Capabilities `json:"capabilities"`
	Seccomp      Profile      `json:"seccompProfile"`
	AppArmor     Profile      `json:"appArmorProfile"`
	SELinux      struct {
		Type string `json:"type"`
	} `json:"seLinuxOptions"`
}

// Capabilities are added to those that a runtime gives, and dropped from them.
type Capabilities struct {
	Add  []string `json:"add"`
	Drop []string `json:"drop"`
}

// Profile is one of seccomp or AppArmor.
type Profile struct {
	Type string `json:"type"`
}

// Container is one of a pod's.
type Container struct {
	Name            string   `json:"name"`
	Image           string   `json:"image"`
	Command         []string `json:"command"`
	Args            []string `json:"args"`
	SecurityContext Security `json:"securityContext"`
	Mounts          []Mount  `json:"volumeMounts"`
	Resources       struct {
		Requests map[string]string `json:"requests"`
	} `json:"resources"`
	// Readiness is asked by kubelets alone.
	Readiness *Probe `json:"readinessProbe"`
}

// Probe is how a kubelet asks a container whether it is ready.
type Probe struct {
	Exec struct {
		Command []string `json:"command"`
	} `json:"exec"`
	Period  int `json:"periodSeconds"`
	Timeout int `json:"timeoutSeconds"`
}

// Mount is a volume in a container.
type Mount struct {
	Name        string `json:"name"`
	Path        string `json:"mountPath"`
	ReadOnly    bool   `json:"readOnly"`
	Propagation string `json:"mountPropagation"`
}

// Volume is a directory of the node, or of the pod alone.
type Volume struct {
	Name     string `json:"name"`
	HostPath struct {
		Path string `json:"path"`
		Type string `json:"type"`
	} `json:"hostPath"`
	EmptyDir *EmptyDir `json:"emptyDir"`
}

// EmptyDir is a directory that comes and goes with the pod.
type EmptyDir struct {
	Medium string `json:"medium"`
	Limit  string `json:"sizeLimit"`
}

// Load reads a pod. A field that is not known is an error.
func Load(path string) (*Pod, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Pod{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return nil, fmt.Errorf("read pod of %s: %w", path, err)
	}
	if p.Kind != "Pod" || p.APIVersion != "v1" || len(p.Spec.Containers) == 0 {
		return nil, fmt.Errorf("%s is no pod with a container", path)
	}
	return p, nil
}

// Each calls a function with each container, those that run first included.
func (p *Pod) Each(f func(c *Container)) {
	for _, list := range [][]Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			f(&list[i])
		}
	}
}

// Deny takes a capability from all containers.
func (p *Pod) Deny(capability string) {
	p.Each(func(c *Container) {
		add := &c.SecurityContext.Capabilities.Add
		*add = slices.DeleteFunc(slices.Clone(*add), func(s string) bool { return s == capability })
	})
}

// Unpropagate has no container see what is mounted in its volumes later.
func (p *Pod) Unpropagate() {
	p.Each(func(c *Container) {
		for i := range c.Mounts {
			c.Mounts[i].Propagation = ""
		}
	})
}

// Path is where the node has a volume: one of the pod alone where a kubelet makes it.
func (p *Pod) Path(v *Volume) string {
	if v.EmptyDir != nil {
		return "/var/lib/kubelet/pods/" + p.uid() + "/volumes/kubernetes.io~empty-dir/" + v.Name
	}
	return v.HostPath.Path
}

func (p *Pod) uid() string { return "uid-of-" + p.Metadata.Name }

// Volume returns the volume of that name, to be changed; nil if there is none.
func (p *Pod) Volume(name string) *Volume {
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Name == name {
			return v
		}
	}
	return nil
}
