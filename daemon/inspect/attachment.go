// SPDX-License-Identifier: Apache-2.0

package inspect

// AttachmentDeclarer is an inspector that needs other things of one pod's packets than
// of another's, such as whole packets only where a rule reads what they carry.
//
// The daemon asks NeedsOf after Attached of an [AttachmentObserver], before the first
// packet of the attachment, and again for each [Change] that concerns it. Settles,
// SocketUID and CopyRange of the answer count; a CopyRange of 0 means what counts for all
// pods, 1<<16 the whole packet. Modifies is for all pods alike, of a [Declarer]. NeedsOf must
// return soon, and may be called beside Inspect; one that panics has no needs.
type AttachmentDeclarer interface {
	Inspector
	NeedsOf(a *Attachment) Needs
}

// AttachmentDigester is an inspector that can tell whether it decides about a pod as it
// did before, also across a restart of the daemon.
//
// DigestOf identifies all that the inspector decides by for the attachment, in any text.
// The daemon asks it when the attachment's packets begin to come, and for each [Change]
// that concerns it. Where the digest is that of the last time, flows that are settled
// stay settled. The empty text means that nothing is known.
//
// So two inspectors that decide otherwise must have different digests, also if they are
// of different versions of the program.
type AttachmentDigester interface {
	Inspector
	DigestOf(a *Attachment) string
}

// AttachmentChanger is an inspector whose rules change while it runs, for some pods
// and not for others. The daemon carries out one [Change] after the other, in the order
// in which the channel delivers them, beside calls of Inspect. While the inspector sends
// one, it must not hold a lock that its other methods take: they may be called before the
// daemon comes to the channel.
type AttachmentChanger interface {
	Inspector
	AttachmentChanges() <-chan Change
}

// Change says for which attachments an inspector has other rules. The daemon does the
// following, in this order:
//
//  1. It asks NeedsOf, and has the kernel copy as much as the needs of before and those
//     of now, whichever are more, and tell whose a socket is where either needs it.
//     Then it waits for the packets that were copied before, at most 200 ms: they have
//     their verdicts.
//  2. It calls Apply.
//  3. It asks NeedsOf and DigestOf again, and has the kernel copy what is needed. If the
//     digest is another one, or empty, all settled flows come to the inspector again.
//     Verdicts that are under way meanwhile settle nothing.
//
// So an inspector that changes its rules in Apply, and answers until then with the needs
// of the rules to come, gets no packet by the new rules of which too little was copied.
// Attachments that came after Change was sent are not among those that it names: their
// needs are what NeedsOf said when they came. An inspector that then knows of other
// rules for them sends another Change.
type Change struct {
	// Attachments are whose rules change; nil means all. Those that are detached by
	// now do not matter.
	Attachments []*Attachment
	// Apply, if any, puts the new rules in force; nil means that they are already.
	Apply func()
}
