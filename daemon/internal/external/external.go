// SPDX-License-Identifier: Apache-2.0

// Package external owns which inspector outside the daemon gets which packets: those of
// pods that it reads whole, and those that rules leave to it. What an inspector is, a
// program on a socket or one with a queue of its own, it does not know.
package external

import (
	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/rules"
)

// Inspector is a program outside the daemon that judges packets. Its methods are called
// by many goroutines, and return soon.
type Inspector interface {
	// InspectBatch gets packets of one attachment that are accepted so far, 64 at most, in
	// order. verdicts[i] is what becomes of packets[i] if the inspector accepts it, with
	// the marks that rules have set. InspectBatch writes to it what becomes of the packet,
	// at once or later (inspect.Defer). While the program is away, that is what its
	// configuration says.
	InspectBatch(packets []*inspect.Packet, verdicts []inspect.Verdict)
	// Attached tells of an attachment that the inspector reads whole (whole), or to which
	// rules name it. Packets of others may come, if rules change. It is called before the
	// first packet, while the call that attaches waits.
	Attached(a *inspect.Attachment, whole bool)
	// Detached tells that no more packets of an attachment come, of which the inspector
	// may not have heard. All of them have their verdicts.
	Detached(a *inspect.Attachment)
	// Needs says what packets of an attachment that it reads whole must have. CopyRange
	// and Settles count, and SocketUID.
	Needs(a *inspect.Attachment) inspect.Needs
	// Reader says for people what reads an attachment.
	Reader(a *inspect.Attachment) api.Reader
}

// Entry is an inspector with its place.
type Entry struct {
	Name string
	// Selects says whether the inspector reads a pod whole. Nil: it reads none.
	Selects func(*rules.Pod) bool
	// Unfit says why rules cannot leave flows to the inspector; nil: they can.
	Unfit     error
	Inspector Inspector
}
