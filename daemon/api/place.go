// SPDX-License-Identifier: Apache-2.0

package api

import "slices"

// Place is where the daemon runs: what the container that it may be in lets it see and
// do. What could not be found out is absent, or unknown.
type Place struct {
	// Kubernetes: it runs in a container of a pod.
	Kubernetes bool `json:"kubernetes"`
	// PIDNamespace says whether it sees all processes of the node.
	PIDNamespace Sight `json:"pidNamespace"`
	// UserNamespace says whether it has the node's users.
	UserNamespace Sight `json:"userNamespace"`
	// AppArmor is the profile that confines it, such as "cri-containerd.apparmor.d
	// (enforce)"; empty where none does, or where that cannot be told.
	AppArmor string `json:"appArmor,omitempty"`
	// Missing are the capabilities that it would make use of, and has not.
	Missing []MissingCapability `json:"missingCapabilities,omitempty"`
	// NetnsDirs are the directories of pods' netns that are there.
	NetnsDirs []NetnsDir `json:"netnsDirs,omitempty"`
}

// Lacks reports whether the daemon is known not to have a capability.
func (p *Place) Lacks(name string) bool {
	return slices.ContainsFunc(p.Missing, func(c MissingCapability) bool { return c.Name == name })
}

// Sight says whether the daemon has something of the node's, or its own.
type Sight string

// What a Sight can be.
const (
	OfNode       Sight = "node"
	OfItsOwn     Sight = "own"
	SightUnknown Sight = "unknown"
)

// MissingCapability is a capability that the daemon has not.
type MissingCapability struct {
	Name string `json:"name"`
	// For says what it is for.
	For string `json:"for"`
	// Required: the daemon can inspect nothing without it.
	Required bool `json:"required"`
}

// NetnsDir is a directory in which the runtime mounts the netns of pods.
type NetnsDir struct {
	Path string `json:"path"`
	// Follows says whether the daemon sees what is mounted there later: the node's own
	// mounts, or a copy that follows them. In a copy that does not it never sees the netns
	// of later pods.
	Follows Sight `json:"follows"`
}
