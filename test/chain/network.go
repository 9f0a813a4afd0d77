// SPDX-License-Identifier: Apache-2.0

// Package chain makes and removes pods as a container runtime does: it drives
// libcni with the real plugins of a conflist, and runs the real nsqueued beside
// them. It works inside a throw-away node only (see package nstest).
package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// PluginType is the type of the nsqueue entry in a conflist.
const PluginType = cnipod.PluginType

// cacheDir is where libcni keeps results between calls, inside the node.
const cacheDir = "/var/lib/cni"

// subnet is what flanneld writes for the flannel plugin to read.
const (
	subnetFile = "/run/flannel/subnet.env"
	subnet     = "FLANNEL_NETWORK=10.244.0.0/16\n" +
		"FLANNEL_SUBNET=10.244.7.1/24\n" +
		"FLANNEL_MTU=1450\n" +
		"FLANNEL_IPMASQ=true\n"
)

// Config says how a network is made from a conflist.
type Config struct {
	// Conflist is the file.
	Conflist string
	// Bin is the directory with the nsqueue plugin, and with the others in cni/.
	Bin string
	// CNIVersion replaces the file's where it is not empty.
	CNIVersion string
	// Stock leaves the nsqueue entry out.
	Stock bool
	// Change is put over the fields of entries, by their type; a nil value
	// removes the field.
	Change map[string]map[string]any
	// Stderr receives what the plugins log.
	Stderr *Log
}

// Network is one conflist in use.
type Network struct {
	list     *libcni.NetworkConfigList
	loopback *libcni.NetworkConfigList
	cni      *libcni.CNIConfig
}

// Open loads the network. For flannel it plays flanneld, too.
func Open(c Config) (*Network, error) {
	list, err := loadList(c)
	if err != nil {
		return nil, fmt.Errorf("load conflist %s: %w", c.Conflist, err)
	}
	loopback, err := libcni.NetworkConfFromBytes([]byte(
		`{"cniVersion": "0.3.1", "name": "cni-loopback", "plugins": [{"type": "loopback"}]}`))
	if err != nil {
		return nil, fmt.Errorf("load loopback list: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(subnetFile), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(subnetFile, []byte(subnet), 0o644); err != nil {
		return nil, err
	}
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}
	if c.Stderr != nil {
		exec.Stderr = c.Stderr
	}
	exec.PluginDecoder = version.PluginDecoder{}
	path := []string{c.Bin, filepath.Join(c.Bin, "cni")}
	return &Network{
		list: list, loopback: loopback,
		cni: libcni.NewCNIConfigWithCacheDir(path, cacheDir, exec),
	}, nil
}

// loadList reads the file and applies the changes.
func loadList(c Config) (*libcni.NetworkConfigList, error) {
	b, err := os.ReadFile(c.Conflist)
	if err != nil {
		return nil, err
	}
	var file map[string]any
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if c.CNIVersion != "" {
		file["cniVersion"] = c.CNIVersion
	}
	entries, _ := file["plugins"].([]any)
	var kept []any
	for _, e := range entries {
		entry, ok := e.(map[string]any)
		if !ok {
			return nil, errors.New("plugins: want a list of objects")
		}
		name, _ := entry["type"].(string)
		if name == PluginType && c.Stock {
			continue
		}
		overlay(entry, c.Change[name])
		kept = append(kept, entry)
	}
	file["plugins"] = kept
	b, err = json.Marshal(file)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(b)
}

func overlay(entry, fields map[string]any) {
	for k, v := range fields {
		if v == nil {
			delete(entry, k)
			continue
		}
		entry[k] = v
	}
}

// Name returns the network's name.
func (n *Network) Name() string { return n.list.Name }

// Types returns the chain, such as "flannel, portmap, nsqueue".
func (n *Network) Types() string {
	var all []string
	for _, p := range n.list.Plugins {
		all = append(all, p.Network.Type)
	}
	return strings.Join(all, ", ")
}

// Version returns the version of the specification that the network speaks.
func (n *Network) Version() string { return n.list.CNIVersion }

// AtLeast reports whether the network speaks this version or a newer one.
func (n *Network) AtLeast(v string) bool {
	ok, err := version.GreaterThanOrEqualTo(n.list.CNIVersion, v)
	return err == nil && ok
}

// GC tells every plugin which pods there still are.
func (n *Network) GC(ctx context.Context, valid ...*Pod) error {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, p := range valid {
		args.ValidAttachments = append(args.ValidAttachments,
			types.GCAttachment{ContainerID: p.ID, IfName: ifname})
	}
	if err := n.cni.GCNetworkList(ctx, n.list, args); err != nil {
		return fmt.Errorf("collect garbage of network %s: %w", n.Name(), err)
	}
	return nil
}

// Status asks every plugin whether it is ready.
func (n *Network) Status(ctx context.Context) error {
	if err := n.cni.GetStatusNetworkList(ctx, n.list); err != nil {
		return fmt.Errorf("status of network %s: %w", n.Name(), err)
	}
	return nil
}

// Forget makes libcni lose what it remembers of a pod, as when a node's disk
// is wiped: a GC call then no longer turns into a DEL of that pod.
func (n *Network) Forget(p *Pod) error {
	file := strings.Join([]string{n.Name(), p.ID, ifname}, "-")
	return os.Remove(filepath.Join(cacheDir, "results", file))
}
