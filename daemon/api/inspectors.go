// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Reader is what judges the packets of an attachment.
type Reader struct {
	// Kind is rules, inspector (a program that is connected by a socket), program (one with
	// a queue of its own), or daemon (what is built into it).
	Kind ReaderKind `json:"kind"`
	// Name is that of an inspector of nsqueued's configuration.
	Name string `json:"name,omitempty"`
	// PID is the process of the inspector, 0 where it is away.
	PID int `json:"pid,omitempty"`
}

// ReaderKind says what kind of a thing judges packets.
type ReaderKind string

// The kinds.
const (
	ReaderDaemon    ReaderKind = "daemon"
	ReaderRules     ReaderKind = "rules"
	ReaderInspector ReaderKind = "inspector"
	ReaderProgram   ReaderKind = "program"
)

// InspectorState is what is known of an inspector outside the daemon.
type InspectorState struct {
	Name string     `json:"name"`
	Kind ReaderKind `json:"kind"`
	// Socket is where the daemon listens for it.
	Socket string `json:"socket,omitempty"`
	// Transport is messages, memfd or descriptor. Of the last one nothing is counted but
	// connections.
	Transport string `json:"transport,omitempty"`
	// Connected says that it is there, and Since when it came.
	Connected bool       `json:"connected"`
	Since     *time.Time `json:"since,omitempty"`
	// Stalled says that it has answered too late, and has not caught up so far.
	Stalled bool `json:"stalled,omitempty"`
	// Client is what it calls itself.
	Client string `json:"client,omitempty"`
	PID    int    `json:"pid,omitempty"`
	UID    int    `json:"uid,omitempty"`
	// Attachments are how many it reads whole.
	Attachments int               `json:"attachments"`
	OnFailure   string            `json:"onFailure"`
	Counters    InspectorCounters `json:"counters"`
	// Problem says what is wrong, and is empty where nothing is.
	Problem string `json:"problem,omitempty"`
}

// InspectorCounters count what became of the packets for an inspector, since the daemon
// has started.
type InspectorCounters struct {
	// Packets were sent to it, in Batches.
	Packets uint64 `json:"packets"`
	Batches uint64 `json:"batches"`
	// Answered packets have its verdict.
	Answered uint64 `json:"answered"`
	// Lost packets were sent to it, and it went away. Late ones exceeded its budget. Away
	// ones came while it was away, or had not caught up. Overflow found no room.
	Lost     uint64 `json:"lost"`
	Late     uint64 `json:"late"`
	Away     uint64 `json:"away"`
	Overflow uint64 `json:"overflow"`
	// Connections were accepted, Refused ones not: their user may not connect, or they
	// said something wrong. Malformed ones were closed because of what they said.
	Connections uint64 `json:"connections"`
	Refused     uint64 `json:"refused"`
	Malformed   uint64 `json:"malformed"`
}
