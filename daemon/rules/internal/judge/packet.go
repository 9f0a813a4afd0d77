// SPDX-License-Identifier: Apache-2.0

package judge

import "github.com/nsqueue/nsqueue/daemon/inspect"

// Packet is what a Pod has to know of a packet. Judge keeps nothing of it and does not
// write to it.
type Packet struct {
	// Direction is seen from the pod.
	Direction inspect.Direction
	// Payload starts at the IP header, and may be only the beginning of the packet.
	Payload []byte
	// Length is that of the whole packet.
	Length int
	// Unverified says that nobody has looked at the transport's checksum yet. The
	// receiver will, and take no packet with a wrong one.
	Unverified bool
	// Merged says that the kernel has merged several packets of the flow into this one.
	// It does not tell the size of one.
	Merged bool
	// SocketUID is the user that the pod's socket belongs to, and −1 if not known.
	SocketUID int64
}

// user returns the user that the socket belongs to.
func (p *Packet) user() uint32 {
	if p.SocketUID < 0 || p.SocketUID >= noUser {
		return noUser
	}
	return uint32(p.SocketUID)
}

// Action is what becomes of a packet.
type Action uint8

const (
	// None is for packets that no rule can judge: their IP or transport header is
	// malformed, or no memory is left. They are the failure policy's.
	None Action = iota
	// Accept lets the packet pass, as rules decided, or had decided.
	Accept
	// Drop drops the packet, as rules decided, or whatever they say.
	Drop
	// Reject is Drop, and both ends should be told.
	Reject
	// Pass lets a packet pass although its flow is not decided.
	Pass
	// Hold wants the packet kept until its flow is decided: [Note.ID] tells which.
	Hold
)

// String returns the action in the words of logs.
func (a Action) String() string {
	return [...]string{"none", "accept", "drop", "reject", "pass", "hold"}[a]
}

// Outcome is the answer to a packet.
type Outcome struct {
	Action Action
	// Settle says that the kernel may do the same with the rest of the flow.
	Settle bool
	// Mark has the values for the bits of MarkMask in the packet's mark.
	Mark, MarkMask uint32
	// Flow is the number of the packet's flow among those of the pod, and 0 for none.
	Flow uint64
	// By is the name of what decided, as that of a [Note], and empty if nothing did. It
	// is no new text.
	By string
	// Inspector is the name of the one that decides about a packet that is accepted so
	// far, and empty where none is asked.
	Inspector string
}
