// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// ifname is what every runtime calls a pod's interface.
const ifname = "eth0"

// Pod is a netns that the network's plugins were called for.
type Pod struct {
	// NetNS is the pod's, at a path such as a runtime chooses.
	NetNS *nstest.NetNS
	// Namespace and Name are the Kubernetes ones.
	Namespace, Name string
	// ID is the container ID.
	ID string
	// IPv4 and IPv6 are eth0's addresses, zero where it has none.
	IPv4, IPv6 netip.Addr

	net     *Network
	runtime *libcni.RuntimeConf
}

// Pod makes a netns and prepares everything for [Pod.Add]. The name may have a
// namespace in front of it ("kube-system/dns"); annotations may be nil.
func (n *Network) Pod(name string, annotations map[string]string) (*Pod, error) {
	ns, err := nstest.Create("cni")
	if err != nil {
		return nil, err
	}
	p := &Pod{NetNS: ns, Namespace: "default", Name: name, ID: containerID(), net: n}
	if before, after, ok := strings.Cut(name, "/"); ok {
		p.Namespace, p.Name = before, after
	}
	p.runtime = &libcni.RuntimeConf{
		ContainerID: p.ID,
		NetNS:       ns.Path(),
		IfName:      ifname,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ID},
			{"K8S_POD_UID", "uid-of-" + p.Name},
		},
	}
	if annotations != nil {
		p.runtime.CapabilityArgs = map[string]any{cnipod.AnnotationsCapability: annotations}
	}
	return p, nil
}

// NewPod makes a pod and adds it to the network. A pod that cannot be added is
// taken down again, as a runtime does it.
func (n *Network) NewPod(ctx context.Context, name string) (*Pod, error) {
	p, err := n.Pod(name, nil)
	if err != nil {
		return nil, err
	}
	if err := p.Add(ctx); err != nil {
		return nil, errors.Join(err, p.Remove(ctx))
	}
	return p, nil
}

// Key is what the daemon knows the pod by.
func (p *Pod) Key() api.Key { return api.Key{ContainerID: p.ID, Ifname: ifname} }

// SetNetwork makes later calls go through another network, as when its conflist
// has changed since the pod was made.
func (p *Pod) SetNetwork(n *Network) { p.net = n }

// SetID makes later calls name another container.
func (p *Pod) SetID(id string) { p.ID, p.runtime.ContainerID = id, id }

// Add calls ADD of loopback and of the network's plugins.
func (p *Pod) Add(ctx context.Context) error {
	if err := p.addLoopback(ctx); err != nil {
		return err
	}
	result, err := p.net.cni.AddNetworkList(ctx, p.net.list, p.runtime)
	if err != nil {
		return fmt.Errorf("add pod %s: %w", p.Name, err)
	}
	if err := p.readAddresses(result); err != nil {
		return fmt.Errorf("add pod %s: read result: %w", p.Name, err)
	}
	return nil
}

func (p *Pod) addLoopback(ctx context.Context) error {
	rt := *p.runtime
	rt.IfName, rt.CapabilityArgs = "lo", nil
	if _, err := p.net.cni.AddNetworkList(ctx, p.net.loopback, &rt); err != nil {
		return fmt.Errorf("add loopback of pod %s: %w", p.Name, err)
	}
	return nil
}

func (p *Pod) readAddresses(result types.Result) error {
	r, err := types100.NewResultFromResult(result)
	if err != nil {
		return err
	}
	for _, ip := range r.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		switch addr = addr.Unmap(); {
		case !ok:
			return fmt.Errorf("address %s", ip.Address.IP)
		case addr.Is4():
			p.IPv4 = addr
		default:
			p.IPv6 = addr
		}
	}
	return nil
}

// Check calls CHECK.
func (p *Pod) Check(ctx context.Context) error {
	if err := p.net.cni.CheckNetworkList(ctx, p.net.list, p.runtime); err != nil {
		return fmt.Errorf("check pod %s: %w", p.Name, err)
	}
	return nil
}

// Del calls DEL of the network's plugins; the netns stays.
func (p *Pod) Del(ctx context.Context) error {
	if err := p.net.cni.DelNetworkList(ctx, p.net.list, p.runtime); err != nil {
		return fmt.Errorf("delete pod %s: %w", p.Name, err)
	}
	return nil
}

// Remove calls DEL of everything, then removes the netns.
func (p *Pod) Remove(ctx context.Context) error {
	rt := *p.runtime
	rt.IfName, rt.CapabilityArgs = "lo", nil
	return errors.Join(p.Del(ctx),
		p.net.cni.DelNetworkList(ctx, p.net.loopback, &rt), p.NetNS.Remove())
}

// containerID returns a random one in the form that runtimes use.
func containerID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
