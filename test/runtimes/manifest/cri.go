// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// criticalScore is the oom_score_adj that a kubelet gives containers of pods that the
// node depends on.
const criticalScore = -997

// Sandbox is what a kubelet asks for first: the pod without its containers.
func (p *Pod) Sandbox(cgroup string) *runtime.PodSandboxConfig {
	m := p.Metadata
	return &runtime.PodSandboxConfig{
		Metadata: &runtime.PodSandboxMetadata{
			Name: m.Name, Namespace: m.Namespace, Uid: p.uid(),
		},
		LogDirectory: "/run/pod-logs/" + m.Namespace + "_" + m.Name,
		Labels:       m.Labels,
		DnsConfig:    &runtime.DNSConfig{},
		Linux: &runtime.LinuxPodSandboxConfig{
			CgroupParent: cgroup,
			SecurityContext: &runtime.LinuxSandboxSecurityContext{
				NamespaceOptions: p.namespaces(),
				Seccomp:          p.seccomp(),
			},
		},
	}
}

func (p *Pod) namespaces() *runtime.NamespaceOption {
	o := &runtime.NamespaceOption{Pid: runtime.NamespaceMode_CONTAINER}
	if p.Spec.HostPID {
		o.Pid = runtime.NamespaceMode_NODE
	}
	if p.Spec.HostNetwork {
		o.Network = runtime.NamespaceMode_NODE
	}
	return o
}

func (p *Pod) seccomp() *runtime.SecurityProfile {
	if p.Spec.SecurityContext.Seccomp.Type == "RuntimeDefault" {
		return &runtime.SecurityProfile{
			ProfileType: runtime.SecurityProfile_RuntimeDefault,
		}
	}
	return &runtime.SecurityProfile{ProfileType: runtime.SecurityProfile_Unconfined}
}

// Configs are what a kubelet asks for then: containers that run to their end one after
// the other, and those of the pod.
func (p *Pod) Configs() (first, then []*runtime.ContainerConfig, err error) {
	if first, err = p.configs(p.Spec.InitContainers); err != nil {
		return nil, nil, err
	}
	then, err = p.configs(p.Spec.Containers)
	return first, then, err
}

func (p *Pod) configs(containers []Container) ([]*runtime.ContainerConfig, error) {
	var all []*runtime.ContainerConfig
	for i := range containers {
		c := &containers[i]
		mounts, err := p.mounts(c)
		if err != nil {
			return nil, err
		}
		all = append(all, &runtime.ContainerConfig{
			Metadata: &runtime.ContainerMetadata{Name: c.Name},
			Image:    &runtime.ImageSpec{Image: c.Image},
			Command:  c.Command, Args: c.Args, Mounts: mounts, LogPath: c.Name + ".log",
			Linux: &runtime.LinuxContainerConfig{
				Resources:       &runtime.LinuxContainerResources{OomScoreAdj: criticalScore},
				SecurityContext: p.security(c),
			},
		})
	}
	return all, nil
}

func (p *Pod) mounts(c *Container) ([]*runtime.Mount, error) {
	var all []*runtime.Mount
	for _, m := range c.Mounts {
		v := p.Volume(m.Name)
		if v == nil {
			return nil, fmt.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
		}
		mount := &runtime.Mount{
			ContainerPath: m.Path, HostPath: p.Path(v), Readonly: m.ReadOnly,
		}
		if m.Propagation == "HostToContainer" {
			mount.Propagation = runtime.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		}
		all = append(all, mount)
	}
	return all, nil
}

func (p *Pod) security(c *Container) *runtime.LinuxContainerSecurityContext {
	s := c.SecurityContext
	return &runtime.LinuxContainerSecurityContext{
		Capabilities: &runtime.Capability{
			AddCapabilities: s.Capabilities.Add, DropCapabilities: s.Capabilities.Drop,
		},
		Privileged: s.Privileged, ReadonlyRootfs: s.ReadOnlyRoot,
		NamespaceOptions: p.namespaces(), Seccomp: p.seccomp(),
		MaskedPaths: maskedPaths(), ReadonlyPaths: readonlyPaths(),
	}
}

// maskedPaths are those of the default procMount.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
}
