// SPDX-License-Identifier: Apache-2.0

package inspect

// Inspector decides what becomes of packets. Inspect is called from one
// goroutine per queue, concurrently for different queues; the packets of one
// queue come in order, one at a time. Packets of one flow, in both directions,
// are in one queue.
//
// If Inspect panics or answers the zero Verdict, the packet gets the verdict
// of its attachment's failure policy. If it takes longer than the daemon's time
// budget, so do all packets that were received with this one; another goroutine
// goes on with the queue, and what the late call answers is discarded.
type Inspector interface {
	Inspect(p *Packet) Verdict
}

// BatchInspector is an inspector that takes its packets in batches: of one queue, in
// order, as many as have come, at most 64. The daemon calls InspectBatch in place of
// Inspect.
//
// InspectBatch writes the verdict about packets[i] to verdicts[i], which is the zero
// Verdict before. Both are the daemon's again when it returns. What is said of the
// calls of Inspect goes for those of InspectBatch; the time budget is the same, since
// it is one for a batch. If InspectBatch panics, all packets of the batch get the
// failure policy's verdict, also those whose verdict is written.
type BatchInspector interface {
	Inspector
	InspectBatch(packets []*Packet, verdicts []Verdict)
}

// Needs are what an inspector needs beyond the default.
type Needs struct {
	// Modifies is for inspectors that answer with replacement payloads. Their
	// packets come whole and unmerged: the kernel splits what it had put
	// together (segmentation offload), which costs most of the throughput of TCP.
	// That goes for all packets, so declare it only where packets are replaced,
	// and settle flows that need no more of it.
	Modifies bool
	// Settles is for inspectors whose verdicts ask to settle flows.
	Settles bool
	// Defers is for inspectors that answer some packets later ([Packet.Defer]).
	Defers bool
	// CopyRange is how many bytes of each packet are wanted at most; 0 means
	// what the daemon is configured for.
	CopyRange uint32
	// SocketUID is for inspectors that read [Packet].UID. The kernel then looks at the
	// socket of each packet, which costs a few percent of what a packet costs.
	SocketUID bool
}

// Declarer is an inspector that declares its needs. Needs is called once.
type Declarer interface {
	Inspector
	Needs() Needs
}

// Changer is an inspector whose rules change while it runs. Each value that the
// channel delivers makes all settled flows come to the inspector again.
type Changer interface {
	Inspector
	Changes() <-chan struct{}
}

// AttachmentObserver is an inspector that is told whose packets come to it, such as
// to keep something for each pod.
//
// Attached is called before the first packet of an [Attachment], and Detached after
// the last one: when Inspect has returned from it, even late. Both get the pointer
// that those packets have, so it can be the key of what is kept. Each Attached is
// followed by exactly one Detached, unless the daemon is killed or a call of Inspect
// never returns. That is so where attaching fails, too, and where the daemon ends or
// hands its pods over: the next daemon's inspector is told of them anew. Another
// hook, policy, or queue for the same pod is no news.
//
// Attachments that share a netns are inspected as one: all packets have the one that
// came first, of which alone the inspector is told, until the last one is detached.
//
// Calls about different attachments are concurrent, and so are calls of Inspect for
// others. Attaching and detaching wait for them: they must return soon. What they
// panic with is logged and changes nothing.
type AttachmentObserver interface {
	Inspector
	Attached(a *Attachment)
	Detached(a *Attachment)
}

// Func is a function that is an Inspector.
type Func func(p *Packet) Verdict

// Inspect calls f.
func (f Func) Inspect(p *Packet) Verdict { return f(p) }

// AcceptAll is the inspector that lets every packet pass.
type AcceptAll struct{}

// Inspect accepts.
func (AcceptAll) Inspect(*Packet) Verdict { return Verdict{Action: Accept} }

// Direction is where in the pod's stack the packet was caught.
type Direction uint8

// The directions, seen from the pod.
const (
	Unknown Direction = iota
	In                // to a socket of the pod
	Out               // from a socket of the pod
	Forward           // through the pod
)

// String returns in, out, forward or unknown.
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	case Forward:
		return "forward"
	}
	return "unknown"
}

// Checksum is what the kernel knows of the checksum of a packet's transport header.
type Checksum uint8

// The states of a checksum.
const (
	// ChecksumTrusted needs no look: the kernel or the network card has verified
	// it, or a socket of the pod has made it.
	ChecksumTrusted Checksum = iota
	// ChecksumUnverified is for the receiving socket to verify, which drops a
	// packet whose checksum is wrong: what is in it then reaches no program. See
	// [VerifyChecksum].
	ChecksumUnverified
	// ChecksumNotReady is made later, by the kernel or the network card, because
	// the packet comes from a socket of this node or was merged. There is nothing
	// to verify.
	ChecksumNotReady
)

// Attachment says whose packets these are. It is not changed after its
// inspector has seen it.
type Attachment struct {
	ContainerID  string
	Ifname       string
	Network      string
	PodNamespace string
	PodName      string
	PodUID       string
	// Annotations are those of the pod that the CNI entry passes on, as they were
	// when the pod started; nil for none. The pod's author has written them: do not
	// let a pod do more for what they say alone. Do not write to the map.
	Annotations map[string]string
	// Labels are those of the pod, where they were known when the attachment began, as they
	// were when the pod started; nil if they were not known. What Annotations says of their
	// author and of the map is true of them, too.
	Labels map[string]string
}

// Packet is one packet that waits for a verdict. It and its payload are valid
// only until Inspect returns; an inspector must not write to them.
type Packet struct {
	// ID is the kernel's number of the packet in its queue.
	ID        uint32
	Direction Direction
	// Checksum is whether the checksum of the transport header is to be verified.
	Checksum Checksum
	// Merged packets are several of one flow that the kernel has put together, or
	// will take apart (GSO). It does not tell the size of one: of UDP, how many
	// datagrams they are is not known.
	Merged bool
	// Mark is the packet's mark when it was queued.
	Mark uint32
	// Priority is the packet's priority when it was queued.
	Priority uint32
	// UID is the user that the sending socket of the pod belongs to: who opened it, as
	// a number of the initial user namespace, whatever the pod takes it for. It is
	// −1 where that is not known: of packets that do not go [Out], of those that the
	// kernel sends by itself or for a socket that is closed, and without
	// [Needs].SocketUID. 0 is root.
	UID int64
	// InDev and OutDev are interface indexes in the pod, 0 where there is none.
	InDev, OutDev uint32
	// Payload starts at the IP header.
	Payload []byte
	// Length is that of the whole packet; the payload is shorter where the
	// queue copies only the beginning.
	Length int
	// Attachment is the pod interface whose packet this is.
	Attachment *Attachment
	// Deferrer is who keeps the packet for [Packet.Defer], nil where nobody does.
	Deferrer Deferrer
}

// Action is what a verdict does.
type Action uint8

// The actions. NoVerdict leaves the decision to the failure policy.
const (
	NoVerdict Action = iota
	Accept
	Drop
	// Queue sends the packet to the queue that the verdict names.
	Queue
	// Reject drops the packet and tells the ends: both ends of a TCP connection by a
	// reset, the sender of another packet by an error of ICMP. Nobody is told where
	// that is not allowed, such as of a reset or of a multicast packet, nor beyond
	// 1,000 packets a second in a pod.
	Reject
	// Defer is the answer about a packet that is released later ([Packet.Defer]).
	Defer
)

// String returns the action's name.
func (a Action) String() string {
	switch a {
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case Queue:
		return "queue"
	case Reject:
		return "reject"
	case Defer:
		return "defer"
	}
	return "none"
}

// Verdict is an inspector's answer.
type Verdict struct {
	Action Action
	// Settle asks the kernel to decide the rest of the packet's flow, in both
	// directions, as this packet: accept or drop, which is what it does after a
	// [Reject]. The inspector then gets no
	// more of it for the time that is configured (settle.timeout), whether the
	// flow is busy or not, unless rules change or a SYN opens another TCP
	// connection of the same addresses and ports. That SYN is inspected, and so
	// is a datagram that begins as QUIC's long headers do, which leaves its flow
	// settled. It is a request: where settling is off, or not possible, packets
	// keep coming.
	Settle bool
	// Queue is where [Queue] sends the packet.
	Queue uint16
	// Withheld goes with [Reject] of a TCP segment: how many bytes of its sender, right
	// before this segment, have not gone on because the inspector has dropped or deferred
	// them. The receiver's reset has the number of the first of them, as the receiver
	// believes no other.
	Withheld uint32
	// Mark holds new values for the mark's bits under MarkMask; the daemon
	// limits MarkMask to the bits that its configuration leaves to inspectors.
	// The other bits keep their value.
	Mark, MarkMask uint32
	// Reason names what decided, for people: nsqueuectl watch shows it and finds
	// packets by it, whole or by what is before a slash, as in SET/RULE. Where rules
	// decide, it is the name of the rule. Make it once, not for each packet. Of a long
	// one the beginning is shown, and none where the failure policy decides.
	Reason string
	// Payload replaces a packet that is accepted or queued, from its IP header on;
	// nil keeps it. The daemon corrects checksums as [FixChecksums] does. Lengths
	// are the inspector's job: that of the IP header must be the payload's, and
	// that of the transport must not be more. Only inspectors that declare
	// [Needs].Modifies may replace packets, and the IP header must keep its
	// version, options and protocol. A replacement that is refused is counted as
	// malformed, and its packet gets the failure policy's verdict. It is copied
	// before the next call of Inspect or InspectBatch.
	Payload []byte
}

// ApplyMark returns the packet mark that v makes of origin, where only the
// bits under allowed may change.
func (v Verdict) ApplyMark(origin, allowed uint32) uint32 {
	mask := v.MarkMask & allowed
	return origin&^mask | v.Mark&mask
}
