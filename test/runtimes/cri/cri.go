// SPDX-License-Identifier: Apache-2.0

// Package cri is a small client of container runtimes, for tests: what a
// kubelet does with pods, a call at a time.
package cri

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// Client talks to one runtime. It is safe for concurrent use.
type Client struct {
	// Runtime has the calls themselves.
	Runtime runtime.RuntimeServiceClient

	conn *grpc.ClientConn
}

// Dial prepares a client of the runtime at the socket, which need not be there
// yet.
func Dial(socket string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("dial runtime at %s: %w", socket, err)
	}
	return &Client{Runtime: runtime.NewRuntimeServiceClient(conn), conn: conn}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Ready reports whether the runtime and its network are ready.
func (c *Client) Ready(ctx context.Context) bool {
	s, err := c.Runtime.Status(ctx, &runtime.StatusRequest{})
	if err != nil {
		return false
	}
	for _, cond := range s.GetStatus().GetConditions() {
		switch cond.GetType() {
		case "RuntimeReady", "NetworkReady":
			if !cond.GetStatus() {
				return false
			}
		}
	}
	return len(s.GetStatus().GetConditions()) > 0
}

// Spec says what a pod is like.
type Spec struct {
	Namespace, Name string
	// Annotations and Labels are the pod's.
	Annotations, Labels map[string]string
	// Handler is the runtime handler, which chooses the CNI configuration.
	Handler string
	// HostPort is forwarded to the container's port 80 where it is not 0.
	HostPort int32
	// Image and Command are those of the one container; without a command there
	// is none, and the pod is only a sandbox.
	Image   string
	Command []string
	// Cgroup is the parent of the pod's control groups.
	Cgroup string
}

// Pod is a pod that runs.
type Pod struct {
	Spec
	// ID is the sandbox's, Container the container's.
	ID, Container string
	// UID is the Kubernetes one.
	UID string
	// IPs are its addresses, as text.
	IPs []string
	// SandboxTook is how long RunPodSandbox took.
	SandboxTook time.Duration

	client  *Client
	config  *runtime.PodSandboxConfig
	removed bool
}

// Run makes a pod and starts its container. A pod that could not be made is
// taken down again; the attempt-th try of the same pod has the same UID.
func (c *Client) Run(ctx context.Context, s Spec, attempt uint32) (*Pod, error) {
	p := &Pod{Spec: s, UID: "uid-of-" + s.Name, client: c}
	p.config = s.sandbox(p.UID, attempt)
	started := time.Now()
	r, err := c.Runtime.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{
		Config: p.config, RuntimeHandler: s.Handler,
	})
	if err != nil {
		return nil, fmt.Errorf("run sandbox of %s: %w", s.Name, err)
	}
	p.SandboxTook = time.Since(started)
	p.ID = r.GetPodSandboxId()
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start pod %s: %w", s.Name, err), p.Remove(ctx))
	}
	return p, nil
}

func (s Spec) sandbox(uid string, attempt uint32) *runtime.PodSandboxConfig {
	config := &runtime.PodSandboxConfig{
		Metadata: &runtime.PodSandboxMetadata{
			Name: s.Name, Namespace: s.Namespace, Uid: uid, Attempt: attempt,
		},
		Hostname:     s.Name,
		LogDirectory: "/run/pod-logs/" + s.Namespace + "_" + s.Name,
		Annotations:  s.Annotations,
		Labels:       s.Labels,
		DnsConfig:    &runtime.DNSConfig{},
		Linux: &runtime.LinuxPodSandboxConfig{
			CgroupParent: s.Cgroup,
			SecurityContext: &runtime.LinuxSandboxSecurityContext{
				NamespaceOptions: namespaces(),
			},
		},
	}
	if s.HostPort != 0 {
		config.PortMappings = []*runtime.PortMapping{{
			Protocol: runtime.Protocol_TCP, ContainerPort: 80, HostPort: s.HostPort,
		}}
	}
	return config
}

// namespaces are those of a pod whose containers do not see each other's
// processes.
func namespaces() *runtime.NamespaceOption {
	return &runtime.NamespaceOption{Pid: runtime.NamespaceMode_CONTAINER}
}

// start finds the pod's addresses and runs its container.
func (p *Pod) start(ctx context.Context) error {
	s, err := p.client.Runtime.PodSandboxStatus(ctx,
		&runtime.PodSandboxStatusRequest{PodSandboxId: p.ID})
	if err != nil {
		return err
	}
	network := s.GetStatus().GetNetwork()
	p.IPs = append(p.IPs, network.GetIp())
	for _, ip := range network.GetAdditionalIps() {
		p.IPs = append(p.IPs, ip.GetIp())
	}
	if p.Command == nil {
		return nil
	}
	p.Container, err = p.add(ctx, &runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{
			Name: "main", Attempt: p.config.GetMetadata().GetAttempt(),
		},
		Image:   &runtime.ImageSpec{Image: p.Image},
		Command: p.Command,
		LogPath: "main.log",
		Linux: &runtime.LinuxContainerConfig{
			SecurityContext: &runtime.LinuxContainerSecurityContext{
				NamespaceOptions: namespaces(),
			},
		},
	})
	return err
}

// add starts a container in the pod, and returns its ID.
func (p *Pod) add(ctx context.Context, config *runtime.ContainerConfig) (string, error) {
	r, err := p.client.Runtime.CreateContainer(ctx, &runtime.CreateContainerRequest{
		PodSandboxId: p.ID, SandboxConfig: p.config, Config: config,
	})
	if err != nil {
		return "", err
	}
	_, err = p.client.Runtime.StartContainer(ctx,
		&runtime.StartContainerRequest{ContainerId: r.GetContainerId()})
	return r.GetContainerId(), err
}

// RunConfig makes a pod as it is asked for. The first containers must succeed, one after
// the other, before it starts the others. Exec runs in the first one of these. A pod that
// could not be made is taken down again.
func (c *Client) RunConfig(ctx context.Context, sandbox *runtime.PodSandboxConfig,
	first, then []*runtime.ContainerConfig,
) (*Pod, error) {
	name := sandbox.GetMetadata().GetName()
	p := &Pod{Spec: Spec{Name: name}, client: c, config: sandbox}
	r, err := c.Runtime.RunPodSandbox(ctx, &runtime.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return nil, fmt.Errorf("run sandbox of %s: %w", name, err)
	}
	p.ID = r.GetPodSandboxId()
	if err := p.addAll(ctx, first, then); err != nil {
		return nil, errors.Join(fmt.Errorf("start pod %s: %w", name, err), p.Remove(ctx))
	}
	return p, nil
}

func (p *Pod) addAll(ctx context.Context, first, then []*runtime.ContainerConfig) error {
	for _, config := range first {
		id, err := p.add(ctx, config)
		if err == nil {
			err = p.succeed(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("run container %s: %w", config.GetMetadata().GetName(), err)
		}
	}
	for i, config := range then {
		id, err := p.add(ctx, config)
		if err != nil {
			return fmt.Errorf("start container %s: %w", config.GetMetadata().GetName(), err)
		}
		if i == 0 {
			p.Container = id
		}
	}
	return nil
}

// succeed waits for the end of a container, which must be a success.
func (p *Pod) succeed(ctx context.Context, id string) error {
	var s *runtime.ContainerStatus
	var err error
	nstest.Poll(patience, func() bool {
		var r *runtime.ContainerStatusResponse
		r, err = p.client.Runtime.ContainerStatus(ctx,
			&runtime.ContainerStatusRequest{ContainerId: id})
		s = r.GetStatus()
		return err != nil || s.GetState() == runtime.ContainerState_CONTAINER_EXITED
	})
	ended := s.GetState() == runtime.ContainerState_CONTAINER_EXITED
	if err == nil && (!ended || s.GetExitCode() != 0) {
		err = fmt.Errorf("state %v, exit code %d", s.GetState(), s.GetExitCode())
	}
	return err
}

// patience is how long a container may run that is to end.
const patience = 5 * time.Minute

// Exec runs a command in the container and returns what it wrote. Only the context
// limits its time.
func (p *Pod) Exec(ctx context.Context, argv ...string) (string, error) {
	r, err := p.client.Runtime.ExecSync(ctx, &runtime.ExecSyncRequest{
		ContainerId: p.Container, Cmd: argv,
	})
	if err != nil {
		return "", fmt.Errorf("in %s run %q: %w", p.Name, argv, err)
	}
	out := string(r.GetStdout()) + string(r.GetStderr())
	if r.GetExitCode() != 0 {
		err = fmt.Errorf("in %s run %q: exit code %d\n%s", p.Name, argv, r.GetExitCode(), out)
	}
	return out, err
}

// EndContainer tells the container to end (SIGTERM), kills it where it has not ended after a
// time, and returns its exit code.
func (p *Pod) EndContainer(ctx context.Context, grace time.Duration) (int, error) {
	_, err := p.client.Runtime.StopContainer(ctx, &runtime.StopContainerRequest{
		ContainerId: p.Container, Timeout: int64(grace.Seconds()),
	})
	if err != nil {
		return 0, fmt.Errorf("end the container of %s: %w", p.Name, err)
	}
	r, err := p.client.Runtime.ContainerStatus(ctx,
		&runtime.ContainerStatusRequest{ContainerId: p.Container})
	if err != nil {
		return 0, fmt.Errorf("container of %s: %w", p.Name, err)
	}
	return int(r.GetStatus().GetExitCode()), nil
}

// Stop stops the pod: its network ends, its sandbox stays.
func (p *Pod) Stop(ctx context.Context) error {
	_, err := p.client.Runtime.StopPodSandbox(ctx,
		&runtime.StopPodSandboxRequest{PodSandboxId: p.ID})
	if err != nil {
		return fmt.Errorf("stop pod %s: %w", p.Name, err)
	}
	return nil
}

// Remove stops and removes the pod as a kubelet does. Doing it twice is fine.
func (p *Pod) Remove(ctx context.Context) error {
	if p.removed {
		return nil
	}
	if err := p.Stop(ctx); err != nil {
		return err
	}
	_, err := p.client.Runtime.RemovePodSandbox(ctx,
		&runtime.RemovePodSandboxRequest{PodSandboxId: p.ID})
	if err != nil {
		return fmt.Errorf("remove pod %s: %w", p.Name, err)
	}
	p.removed = true
	return nil
}

// Pods returns the IDs of the sandboxes that the runtime has.
func (c *Client) Pods(ctx context.Context) ([]string, error) {
	r, err := c.Runtime.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var ids []string
	for _, s := range r.GetItems() {
		ids = append(ids, s.GetId())
	}
	return ids, nil
}
