// SPDX-License-Identifier: Apache-2.0

// Package hook is the contract of what sends a netns' packets to its queue.
// Its implementations are in the packages below it; package hooktest holds the
// test that each of them must pass. [Hook] is the kernel's means, [Handle] their
// use in one netns, [Selector] what they do there.
package hook

import (
	"errors"
	"fmt"
	"os"

	"github.com/nsqueue/nsqueue/daemon/internal/netns"
)

// Kind names an implementation.
type Kind string

// The implementations.
const (
	// NFTables is a rule set in a table of each netns.
	NFTables Kind = "nft"
	// Module is nsqueue.ko.
	Module Kind = "kmod"
)

// ErrNotSupported is in the chain of errors that say what the kernel lacks.
var ErrNotSupported = errors.New("not supported by this kernel")

// ErrNotArmed is in the chain of Verify's error when packets are not sent to
// the queue as they should be.
var ErrNotArmed = errors.New("hook is not armed")

// ErrForeign is in the chain of an error about something in the netns that
// has the hook's name and belongs to another program.
var ErrForeign = errors.New("held by another program in the netns")

// Directions is a set of hook points.
type Directions uint8

// The hook points, seen from the pod.
const (
	In Directions = 1 << iota
	Out
	Forward
	AllDirections = In | Out | Forward
)

// Selector says which packets go to which queue. Some are never selected, because a
// pod without them is cut off before any packet could be inspected: those of the
// loopback device, and in and out, IPv6 neighbour discovery with hop limit 255 and
// multicast listener discovery with hop limit 1, both of code 0.
type Selector struct {
	// Queue is the queue's number, of several the first one's.
	Queue uint16
	// Queues is how many queues from Queue on share the packets, both
	// directions of a flow in the same one; 0 and 1 mean one.
	Queues uint16
	// Bypass accepts packets while no queue of this number is bound; without
	// it they are dropped.
	Bypass bool
	// Directions to select from, at least one.
	Directions Directions
	// Protocols to select, as IP protocol numbers; none means all.
	Protocols []uint8
	// Settle says whether a verdict may decide for the rest of its flow.
	Settle Settle
	// KeepSettled leaves flows settled that an earlier process has settled by an
	// equal Settle, if the netns was armed since and no other program can have
	// settled any. Only the first Arm of a handle looks at it.
	KeepSettled bool
}

// MaxQueues is how many queues a netns may have.
const MaxQueues = 256

// Count returns how many queues share the packets, at least one.
func (s *Selector) Count() int { return max(int(s.Queues), 1) }

// Validate reports a selector that selects nothing or the unknown.
func (s *Selector) Validate() error {
	if s.Directions == 0 || s.Directions&^AllDirections != 0 {
		return fmt.Errorf("directions %#x: want a set of in, out and forward", uint8(s.Directions))
	}
	if s.Count() > MaxQueues {
		return fmt.Errorf("%d queues: want at most %d", s.Queues, MaxQueues)
	}
	if last := int(s.Queue) + s.Count() - 1; last > lastQueue {
		return fmt.Errorf("%d queues from %d on: the last possible number is %d",
			s.Queues, s.Queue, lastQueue)
	}
	return s.Settle.Validate()
}

const lastQueue = 1<<16 - 1

// Counters are what the hook in one netns did.
type Counters struct {
	// Queued packets were sent to the queue, bound or not.
	Queued uint64
	// Exempt packets passed because they are never selected.
	Exempt uint64
	// Settled packets passed or were dropped because their flow is settled.
	Settled uint64
}

// Hook opens handles. It is safe for concurrent use.
type Hook interface {
	// Kind names the implementation.
	Kind() Kind
	// Describe says in a few words what it uses of the running kernel.
	Describe() string
	// Present reports whether the kernel still has what the hook consists of.
	Present() bool
	// Persistent reports whether an armed hook outlives the process that armed
	// it and its handle's Close.
	Persistent() bool
	// Open prepares the netns without sending any packet to the queue, or
	// takes over what an earlier process left there; it changes nothing that
	// is armed. inherited is the descriptor that kept the hook of that process
	// ([Handle.File]), or nil. It belongs to the hook from the call on, also
	// where Open fails. The handle does not need ns after Open has returned.
	Open(ns *netns.NetNS, inherited *os.File) (Handle, error)
}

// Handle is the hook in one netns. Its methods must not be called concurrently;
// those of different handles may. A handle may be used from any thread, whatever
// netns that is in.
//
//	call                 the kernel has after it
//	Arm                  s or, where it fails, what it had
//	Disarm, DisarmEnded  nothing that queues a packet
//	Verify, Counters     what it had
//	Remove               nothing that queues a packet, and of nftables nothing at all
//	Close                what it had, if that is persistent
//
// Arm may follow Arm and Disarm. After Remove only Close may follow, after Close
// nothing. Arm, Disarm, and Close after Remove may wait for a grace period of the
// kernel, which takes milliseconds, and more under load; with the module, DisarmEnded
// and Remove may, too.
type Handle interface {
	// Arm sends selected packets to the queue from its return on, or changes
	// the selection at one stroke if the netns is armed already, also by an
	// earlier process. Where it fails, the selection is as before; it fails with
	// [ErrForeign] where other programs in the netns leave no place for the
	// hook. With another Settle than before, packets of all settled flows are queued
	// again; so they are after another process, without KeepSettled. Packets that wait
	// in a queue are never lost by it; those in a queue that the new selection no longer
	// has keep waiting for its reader.
	//
	// The warning is not a failure: the hook is armed, and another program in
	// the netns holds what the hook would have taken. It matches [ErrForeign],
	// and is nil where there is no such program, or where Arm fails.
	Arm(s Selector) (warning, err error)
	// Disarm lets packets pass again. No packet that waits in the queue is
	// lost by it, and none enters the queue after it has returned. A netns that
	// is not armed stays as it is.
	Disarm() error
	// DisarmEnded is Disarm for a netns in which no process is left. It need
	// not wait for packets that are on their way to the queue: more may enter
	// the queue after its return.
	DisarmEnded() error
	// Verify compares what the kernel has with s. Its error matches
	// [ErrNotArmed] where they differ. at is the netns, or the stop of a
	// [netns.Tour] there: a hook that has to enter the netns does it by at.
	Verify(at netns.Place, s Selector) error
	// Counters returns what the hook counted. They began at Open, or before
	// where the hook of an earlier process was taken over, and begin again at
	// zero where the kernel's part of the hook was replaced: only what they grow
	// by says something.
	Counters() (Counters, error)
	// Remove disarms, and takes out of the netns what the kernel can take out,
	// also where an earlier process left it. Packets that wait in any queue of
	// the netns may be dropped.
	Remove() error
	// Close closes the handle. An armed hook stays armed where it is
	// persistent, or where another process has a duplicate of File; else the
	// kernel removes it.
	Close() error
	// File returns the descriptor that keeps the hook, nil if none does. It
	// stays the handle's.
	File() *os.File
}
