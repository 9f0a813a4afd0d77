// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// The sources of labels.
const (
	LabelsNRI  = "nri"
	LabelsNone = "none"
)

// LabelsState is what a status tells of the source of pods' labels.
type LabelsState struct {
	// Source is nri, or none: rules that ask for labels are then refused.
	Source string `json:"source"`
	// Socket is the container runtime's.
	Socket string `json:"socket,omitempty"`
	// Connected says that the runtime tells of pods and their labels, or did not, since a
	// moment.
	Connected bool       `json:"connected"`
	Since     *time.Time `json:"since,omitempty"`
	// Runtime and Version are what the runtime said of itself last.
	Runtime string `json:"runtime,omitempty"`
	Version string `json:"version,omitempty"`
	// Problem is why there is no connection; empty for nothing.
	Problem string `json:"problem,omitempty"`
	// Connections is how often there was one, and Pods how many pods were told of when
	// they started. Late are pods that have started before their rules were complete.
	Connections uint64 `json:"connections"`
	Pods        uint64 `json:"pods"`
	Late        uint64 `json:"late"`
	// Unknown is how many attachments there are whose pods' labels have not come.
	Unknown int `json:"unknown"`
}
