// SPDX-License-Identifier: Apache-2.0

package judge

import "github.com/nsqueue/nsqueue/daemon/rules/internal/compile"

// Kind is what a Note is about.
type Kind uint8

const (
	// Decided tells what rules decided of a flow, or of a message where others follow.
	Decided Kind = iota
	// Effect tells that a rule logs, counts or marks, or that a set which audits would
	// have refused.
	Effect
	// Conflict tells of a packet that was dropped, whatever the rules say: it had other
	// bytes than those which were sent before at the same place.
	Conflict
	// Subflow tells of a connection that was refused because it joins another one of
	// MPTCP, so that the bytes which rules ask for would come by two ways.
	Subflow
)

// Note is something that happened to a flow. It is valid during the call that gets it.
type Note struct {
	Kind Kind
	// ID is the flow's number, as in [Outcome]. It is never 0.
	ID uint64
	// Flow is what is known of the flow, and of the message.
	Flow *compile.Flow
	// Packet is the packet at which it happened; nil where time or memory was over.
	Packet *Packet
	// ToServer is the packet's direction in its flow.
	ToServer bool
	// OfMessage says that the note concerns a message of the flow: others may follow,
	// which are decided on their own.
	OfMessage bool
	// Again says that the flow had been decided before the rules changed.
	Again bool

	// Verdict is what was decided; Undecided for an effect.
	Verdict compile.Verdict
	// Set and Rule are what decided or had the effect. Rule is nil for the default of a
	// set, or for what it does midstream. Set is nil after the end of all sets.
	Set       *compile.Set
	Rule      *compile.Rule
	Midstream bool
	// Action is that of an effect, and Audit says that the set only tells of it.
	Action compile.Action
	Audit  bool
}

// Name returns what decided or had the effect as set/rule, set/default, set/midstream or
// nsqueue/reason, or nothing after the end of all sets. It makes no new text.
func (n *Note) Name() string {
	switch n.Kind {
	case Conflict:
		return byConflict
	case Subflow:
		return bySubflow
	}
	return compile.Decision{Set: n.Set, Rule: n.Rule, Midstream: n.Midstream}.Name()
}

// The names of what no rule decides.
const (
	byConflict = compile.Nobody + "/conflict"
	bySubflow  = compile.Nobody + "/mptcp-join"
	byChecksum = compile.Nobody + "/checksum" // the receiver would not take the packet
	byOutside  = compile.Nobody + "/outside"  // nobody could have kept its bytes
)

// Observer is told what happens to flows. The calls are made while a packet waits and
// must neither block nor call the Pod.
type Observer interface {
	Note(n *Note)
}
