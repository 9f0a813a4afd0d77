// SPDX-License-Identifier: Apache-2.0

package adopt

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// kindV1 is what libcni writes into each file of its cache, from 0.8 on.
const kindV1 = "cniCacheV1"

// record is what a file of the cache says of a pod.
type record struct {
	key     api.Key
	network string
	pod     api.Pod
	// netnsPath is empty where libcni was older than 1.2.
	netnsPath string
	// addresses of the pod's interface, as [canonical] leaves them.
	addresses []netip.Addr
	// settings are those of our entry in the configuration that the pod was made
	// with. Their policy is empty where there is none.
	settings cnipod.Settings
}

// cached is the part of libcni's file that we read.
type cached struct {
	Kind           string                     `json:"kind"`
	ContainerID    string                     `json:"containerId"`
	Config         []byte                     `json:"config"`
	IfName         string                     `json:"ifName"`
	NetworkName    string                     `json:"networkName"`
	NetNS          string                     `json:"netns"`
	CNIArgs        [][2]string                `json:"cniArgs"`
	CapabilityArgs map[string]json.RawMessage `json:"capabilityArgs"`
	Result         result                     `json:"result"`
}

// result is the part of a CNI result that we read, in the form that it has had
// since version 0.3.0 of the specification.
type result struct {
	Interfaces []struct {
		Name string `json:"name"`
	} `json:"interfaces"`
	IPs []struct {
		Interface *int         `json:"interface"`
		Address   netip.Prefix `json:"address"`
	} `json:"ips"`
}

// parseRecord reads a file of the cache. Its name must be the one that libcni
// gives it, so that a copy of a file is no second pod.
func parseRecord(name string, b []byte) (record, error) {
	var c cached
	if err := json.Unmarshal(b, &c); err != nil {
		return record{}, err
	}
	if c.Kind != kindV1 {
		return record{}, fmt.Errorf("kind %.40q: want %q", c.Kind, kindV1)
	}
	r := record{
		key:     api.Key{ContainerID: c.ContainerID, Ifname: c.IfName},
		network: c.NetworkName, netnsPath: c.NetNS, pod: cnipod.Identity(c.CNIArgs),
	}
	if err := r.key.Validate(); err != nil {
		return record{}, err
	}
	want := c.NetworkName + "-" + c.ContainerID + "-" + c.IfName
	if c.NetworkName == "" || name != want {
		return record{}, fmt.Errorf("it is about %.300q", want)
	}
	if r.netnsPath != "" && !filepath.IsAbs(r.netnsPath) {
		return record{}, fmt.Errorf("netns %.300q: want an absolute path", r.netnsPath)
	}
	var err error
	if r.addresses, err = c.Result.addresses(c.IfName); err != nil {
		return record{}, err
	}
	r.settings, err = parseSettings(c.Config, c.CapabilityArgs[cnipod.AnnotationsCapability])
	return r, err
}

// addresses returns those of the interface. An address that names no interface
// is of the one that the call was about.
func (r *result) addresses(ifname string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, ip := range r.IPs {
		if !ip.Address.IsValid() {
			return nil, errors.New("the result has an entry in ips without an address")
		}
		if i := ip.Interface; i != nil {
			if *i < 0 || *i >= len(r.Interfaces) {
				return nil, fmt.Errorf("address %s is of interface %d, the result has %d",
					ip.Address, *i, len(r.Interfaces))
			}
			if r.Interfaces[*i].Name != ifname {
				continue
			}
		}
		all = append(all, ip.Address.Addr())
	}
	return canonical(all), nil
}

// parseSettings finds our entry in a configuration, which need not have one.
// The fields of other plugins' entries are not ours to judge.
func parseSettings(config []byte, annotations json.RawMessage) (cnipod.Settings, error) {
	var s cnipod.Settings
	if annotations != nil {
		if err := json.Unmarshal(annotations, &s.Annotations); err != nil {
			return s, fmt.Errorf("pod annotations: %w", err)
		}
	}
	var list struct {
		Plugins []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(config, &list); err != nil {
		return s, fmt.Errorf("CNI configuration: %w", err)
	}
	for _, raw := range list.Plugins {
		var head struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &head) != nil || head.Type != cnipod.PluginType {
			continue
		}
		var e cnipod.Entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return s, fmt.Errorf("CNI configuration: entry %s: %w", cnipod.PluginType, err)
		}
		if e.FailurePolicy != "" {
			if err := e.FailurePolicy.Validate(); err != nil {
				return s, fmt.Errorf("CNI configuration: entry %s: %w", cnipod.PluginType, err)
			}
		}
		s.Policy, s.ExcludeNamespaces = e.FailurePolicy, e.ExcludeNamespaces
		s.Lowering, s.Passing = e.PodAnnotations, e.PassAnnotations
	}
	return s, nil
}
